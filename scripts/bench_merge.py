"""Time `evomerge merge` against `mergekit-yaml` 0.1.5, whole processes in turn, and against a plain copy.

Usage: python scripts/bench_merge.py [--peer PATH/TO/mergekit-yaml] [--repeats 3] [--layers 24] [--threads 1]

Makes four random bf16 Llama-shaped models (0.34 B parameters each by default: a base and three near it), runs each
recipe with both programs, explains every element that is more than 2 bf16 units in the last place apart (deterministic
methods; see explain_units.py), and prints medians, ratios, peak anonymous memory and the ratio to copying the bytes
that a merge must move. Parents are in the page cache when a process starts. "First run" is one with an empty cache of
compiled kernels, as on a machine where evomerge never merged; the others find it filled, and both programs find their
Python modules compiled.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from explain_units import account
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, VOCABULARY, HEADS = 1024, 2816, 32000, 16
OURS = [str(Path(sys.executable).parent / "evomerge"), "merge"]
MODELS = ("base", "one", "two", "three")
DETERMINISTIC = ("linear", "slerp", "task_arithmetic", "ties")
WEIGHT, DENSITY = 0.4, 0.5
GOALS = {"linear": 0.5, "slerp": 0.35, "task_arithmetic": 0.45, "dare_ties": 0.2, "ties": 0.08}


class Timing(NamedTuple):
    """One process: seconds of wall time and the largest anonymous memory seen, in bytes."""

    seconds: float
    anonymous: int


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a Llama with tied embeddings."""
    block = {
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
        **{f"self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"},
        "mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
        "mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
    }
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(layers):
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    return found


def write_models(folder: Path, layers: int) -> int:
    """Write the four parents and return the bytes of one."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    generator = torch.Generator().manual_seed(0)
    base = {name: (torch.randn(shape, generator=generator) * 0.02).bfloat16() for name, shape in shapes(layers).items()}
    for name in MODELS:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        weights = base
        if name != "base":
            weights = {
                key: (tensor.float() + torch.randn(tensor.shape, generator=generator) * 0.002).bfloat16()
                for key, tensor in base.items()
            }
        save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})
    return sum(tensor.numel() * 2 for tensor in base.values())


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the recipes that are timed."""
    paths = {name: str(folder / name) for name in MODELS}
    weighted = [{"model": paths[name], "parameters": {"weight": WEIGHT}} for name in MODELS[1:]]
    thinned = [{"model": paths[name], "parameters": {"weight": WEIGHT, "density": DENSITY}} for name in MODELS[1:]]
    base = {"base_model": paths["base"], "dtype": "bfloat16"}
    plain = [{"model": paths[name], "parameters": {"weight": 0.25}} for name in MODELS]
    return {
        "linear": {"merge_method": "linear", "models": plain, "dtype": "bfloat16"},
        "slerp": {"merge_method": "slerp", **base, "models": [{"model": paths["one"]}], "parameters": {"t": 0.4}},
        "task_arithmetic": {"merge_method": "task_arithmetic", **base, "models": weighted},
        "dare_ties": {"merge_method": "dare_ties", **base, "models": thinned},
        "ties": {"merge_method": "ties", **base, "models": thinned},
    }


def timed(command: list[str], *, threads: int = 1, **environment: str) -> Timing:
    """Run a command to its end and watch its anonymous memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], anonymous_memory(process.pid))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed:\n{errors.decode()[-2000:]}")
    return Timing(seconds, peak[0])


def anonymous_memory(process: int) -> int:
    """Return the bytes of a process that are not pages of files; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def copy_seconds(folder: Path, inputs: int) -> float:
    """Return the seconds to read `inputs` parents into reused memory and write one of them to a file, on the disk."""
    buffer = bytearray(1 << 22)
    started = time.perf_counter()
    with (folder / "copy.bin").open("wb") as target:
        for number, name in enumerate(MODELS[:inputs]):
            with (folder / name / "model.safetensors").open("rb", buffering=0) as source:
                while count := source.readinto(buffer):
                    if number == 0:
                        target.write(memoryview(buffer)[:count])
        target.flush()
        os.fsync(target.fileno())
    seconds = time.perf_counter() - started
    (folder / "copy.bin").unlink()
    return seconds


def read_parents(folder: Path) -> None:
    """Bring the parents into the page cache."""
    buffer = bytearray(1 << 22)
    for name in MODELS:
        with (folder / name / "model.safetensors").open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass


def compare(name: str, folder: Path, peer: str | None, repeats: int, threads: int) -> dict[str, Any]:
    """Time one recipe with both programs in turn and return medians, ratios and memory."""
    recipe, ours, theirs = folder / f"{name}.yaml", folder / "ours", folder / "theirs"
    timings: dict[str, list[Timing]] = {"ours": [], "theirs": [], "first": []}

    def run(which: str, command: list[str], out: Path, **environment: str) -> None:
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # what the program before left unwritten is on nobody's time; ours syncs its own
        read_parents(folder)
        timings[which].append(timed(command, threads=threads, **environment))

    with tempfile.TemporaryDirectory() as empty:
        run("first", [*OURS, str(recipe), str(ours)], ours, NUMBA_CACHE_DIR=empty)
    copies: list[float] = []
    for repeat in range(repeats):
        run("ours", [*OURS, str(recipe), str(ours)], ours)
        if peer:
            extra = ["--no-copy-tokenizer", "--random-seed", str(repeat)]
            run("theirs", [peer, str(recipe), str(theirs), *extra], theirs)
        read_parents(folder)
        copies.append(copy_seconds(folder, 2 if name == "slerp" else 4))
    row: dict[str, Any] = {f"{which} seconds": median(times) for which, times in timings.items() if times}
    row |= {f"{which} memory": max(t.anonymous for t in times) for which, times in timings.items() if times}
    row["copy"] = statistics.median(copies)
    if peer and name in DETERMINISTIC:
        row["account"] = account(
            ours,
            theirs,
            folder / "base",
            [folder / each for each in MODELS[1:]],
            ties=(WEIGHT, DENSITY) if name == "ties" else None,
        )
    return row


def compare_threads(name: str, folder: Path, counts: Sequence[int], repeats: int) -> None:
    """Time one recipe with several numbers of threads in turn, print a line for each, and compare the bytes."""
    recipe, out = folder / f"{name}.yaml", folder / "threads"
    timings: dict[int, list[Timing]] = {count: [] for count in counts}
    digests = set()
    for _ in range(repeats + 1):  # the first compiles
        for count in counts:
            shutil.rmtree(out, ignore_errors=True)
            os.sync()
            read_parents(folder)
            timings[count].append(timed([*OURS, str(recipe), str(out), "--threads", str(count)]))
            digests.add(hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest())
    shutil.rmtree(out)
    for count, times in timings.items():
        memory = max(timing.anonymous for timing in times[1:]) / 1e9
        print(f"| {name} | {count} | {median(times[1:]):.2f} | {memory:.2f} |", flush=True)
    if len(digests) > 1:
        sys.exit(f"{name}: threads change the bytes")


def median(times: list[Timing]) -> float:
    """Return the median of seconds."""
    return statistics.median(timing.seconds for timing in times)


def show(name: str, row: Mapping[str, Any], startup: float) -> None:
    """Print one line of the table."""
    working = row["ours seconds"] - startup
    cells = [f"{row['ours seconds']:.2f}", f"{row['first seconds']:.2f}", f"{working:.2f}"]
    cells += [f"{working / row['copy']:.1f}", f"{row['ours memory'] / 1e9:.2f}"]
    if "theirs seconds" in row:
        cells += [f"{row['theirs seconds']:.1f}", f"{row['theirs memory'] / 1e9:.2f}"]
        cells += [f"{row['ours seconds'] / row['theirs seconds']:.3f}", str(GOALS[name])]
        cells.append(str(row["account"].worst) if "account" in row else "random")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Parse, prepare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="mergekit-yaml of an environment of its own; left out = only evomerge")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of both programs")
    parser.add_argument("--only", nargs="*", help="names of recipes")
    parser.add_argument(
        "--merge-threads", nargs="*", type=int, help="time `evomerge merge --threads N` for each of these, nothing else"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = write_models(folder, arguments.layers)
        for name, document in recipes(folder).items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
        if arguments.merge_threads:
            print(f"{len(MODELS)} parents of {size / 2e9:.2f} B parameters in bf16, medians of {arguments.repeats}")
            print("| method | threads | s | GB |\n|---|---|---|---|")
            for name in arguments.only or recipes(folder):
                compare_threads(name, folder, arguments.merge_threads, arguments.repeats)
            return
        dry = [*OURS, str(folder / "linear.yaml"), str(folder / "x"), "--dry-run"]
        startup = median([timed(dry) for _ in range(4)][1:])
        print(f"{len(MODELS)} parents of {size / 2e9:.2f} B parameters in bf16, medians of {arguments.repeats}")
        print(f"start-up of evomerge {startup:.2f} s")
        head = "| method | s | first run | s without start-up | over a copy | GB |"
        print(head + (" mergekit s | GB | ratio | goal | units apart |" if arguments.peer else ""))
        print("|---" * (head.count("|") - 1 + (5 if arguments.peer else 0)) + "|")
        accounts = {}
        for name in recipes(folder):
            if not arguments.only or name in arguments.only:
                row = compare(name, folder, arguments.peer, arguments.repeats, arguments.threads)
                show(name, row, startup)
                accounts[name] = row.get("account")
        for name, found in accounts.items():
            if found:
                print(f"\n{name}: {found}")


if __name__ == "__main__":
    main()
