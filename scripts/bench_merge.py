"""Time `evomerge merge` against `mergekit-yaml` 0.1.5, whole processes in turn, and against a plain copy.

Usage: python scripts/bench_merge.py [--peer PATH/TO/mergekit-yaml] [--repeats 3] [--layers 24] [--keep FOLDER]

Makes four random bf16 Llama-shaped models (0.34 B parameters each by default: a base and three near it), runs each
recipe with both programs, checks that the outputs agree (within 2 bf16 units in the last place for deterministic
methods; mergekit computes in bf16), and prints medians, ratios, peak anonymous memory and the ratio to copying the
bytes that a merge must move.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, VOCABULARY, HEADS = 1024, 2816, 32000, 16
OURS = [str(Path(sys.executable).parent / "evomerge"), "merge"]
MODELS = ("base", "one", "two", "three")
DETERMINISTIC = ("linear", "slerp", "task_arithmetic", "ties")
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
    weighted = [{"model": paths[name], "parameters": {"weight": 0.4}} for name in MODELS[1:]]
    thinned = [{"model": paths[name], "parameters": {"weight": 0.4, "density": 0.5}} for name in MODELS[1:]]
    base = {"base_model": paths["base"], "dtype": "bfloat16"}
    plain = [{"model": paths[name], "parameters": {"weight": 0.25}} for name in MODELS]
    return {
        "linear": {"merge_method": "linear", "models": plain, "dtype": "bfloat16"},
        "slerp": {"merge_method": "slerp", **base, "models": [{"model": paths["one"]}], "parameters": {"t": 0.4}},
        "task_arithmetic": {"merge_method": "task_arithmetic", **base, "models": weighted},
        "dare_ties": {"merge_method": "dare_ties", **base, "models": thinned},
        "ties": {"merge_method": "ties", **base, "models": thinned},
    }


def timed(command: list[str]) -> Timing:
    """Run a command to its end and watch its anonymous memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            peak[0] = max(peak[0], *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{command} failed:\n{errors.decode()[-2000:]}")
    return Timing(seconds, peak[0])


def copy_seconds(folder: Path, inputs: int) -> float:
    """Return the seconds to read `inputs` parents into reused memory and write one of them to a file."""
    buffer = bytearray(1 << 24)
    started = time.perf_counter()
    with (folder / "copy.bin").open("wb") as target:
        for number, name in enumerate(MODELS[:inputs]):
            with (folder / name / "model.safetensors").open("rb", buffering=0) as source:
                while count := source.readinto(buffer):
                    if number == 0:
                        target.write(memoryview(buffer)[:count])
        target.flush()
        os.fsync(target.fileno())
    return time.perf_counter() - started


def units_apart(first: Path, second: Path) -> int:
    """Return the largest difference between two folders' tensors in bf16 units in the last place of the larger."""
    worst = 0
    index = second / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    )
    with safe_open(first / "model.safetensors", "pt") as ours:
        for file in files:
            with safe_open(second / file, "pt") as theirs:
                for name in theirs.keys():  # noqa: SIM118  (not a mapping)
                    a, b = ours.get_tensor(name).double(), theirs.get_tensor(name).double()
                    # mergekit rounds intermediate values to bf16, so elements near 0 are judged by the tensor's scale
                    scale = torch.maximum(torch.maximum(a.abs(), b.abs()), a.abs().mean())
                    unit = torch.exp2(torch.floor(torch.log2(scale.clamp_min(1e-30))) - 7)
                    worst = max(worst, int(((a - b).abs() / unit).max().round()))
    return worst


def compare(name: str, folder: Path, peer: str | None, repeats: int) -> dict[str, Any]:
    """Time one recipe with both programs in turn and return medians, ratios and memory."""
    recipe = folder / f"{name}.yaml"
    ours: list[Timing] = []
    theirs: list[Timing] = []
    copies: list[float] = []
    for repeat in range(repeats):
        for command, times, out in (
            (OURS, ours, folder / "ours"),
            ([peer] if peer else [], theirs, folder / "theirs"),
        ):
            if not command:
                continue
            shutil.rmtree(out, ignore_errors=True)
            extra = ["--no-copy-tokenizer", "--random-seed", str(repeat)] if times is theirs else []
            times.append(timed([*command, str(recipe), str(out), *extra]))
        copies.append(copy_seconds(folder, 2 if name == "slerp" else 4))
    row: dict[str, Any] = {
        "seconds": statistics.median(t.seconds for t in ours),
        "memory": max(t.anonymous for t in ours),
        "copy": statistics.median(copies),
    }
    if peer:
        row["peer_seconds"] = statistics.median(t.seconds for t in theirs)
        row["peer_memory"] = max(t.anonymous for t in theirs)
        row["ratio"] = row["seconds"] / row["peer_seconds"]
        if name in DETERMINISTIC:
            row["units"] = units_apart(folder / "ours", folder / "theirs")
    return row


def show(name: str, row: Mapping[str, Any], startup: float) -> None:
    """Print one line of the table."""
    working = row["seconds"] - startup
    line = (
        f"| {name} | {row['seconds']:.2f} | {working:.2f} | {working / row['copy']:.1f} | {row['memory'] / 1e9:.2f} |"
    )
    if "ratio" in row:
        units = row.get("units", "random")
        line += f" {row['peer_seconds']:.1f} | {row['peer_memory'] / 1e9:.2f} |"
        line += f" {row['ratio']:.3f} | {GOALS[name]} | {units} |"
    print(line, flush=True)


def main() -> None:
    """Parse, prepare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="mergekit-yaml of an environment of its own; left out = only evomerge")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--only", nargs="*", help="names of recipes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = write_models(folder, arguments.layers)
        for name, document in recipes(folder).items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
        dry = [*OURS, str(folder / "linear.yaml"), str(folder / "x"), "--dry-run"]
        startup = timed(dry)
        print(f"{len(MODELS)} parents of {size / 2e9:.2f} B parameters in bf16, medians of {arguments.repeats}")
        print(f"start-up of evomerge {startup.seconds:.2f} s")
        head = "| method | s | s without start-up | over a copy | GB |"
        print(head + (" mergekit s | GB | ratio | goal | units apart |" if arguments.peer else ""))
        print("|---" * (head.count("|") - 1 + (5 if arguments.peer else 0)) + "|")
        for name in recipes(folder):
            if not arguments.only or name in arguments.only:
                show(name, compare(name, folder, arguments.peer, arguments.repeats), startup.seconds)


if __name__ == "__main__":
    main()
