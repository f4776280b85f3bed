"""Time prepared scoring against `lm_eval.simple_evaluate`, and against a candidate's own forward passes.

Usage: python scripts/bench_evaluate.py [--items 200] [--context 64] [--choice 32] [--hidden 256] [--vocabulary 8192]
           [--shots 0] [--dtype float32] [--device cpu] [--grid] [--json]

First part: four-choice questions (contexts of about 64 tokens, choices of about 32) on a random Llama (256 wide, 6
blocks, 8,192 tokens, one character each). All score the same weights in the same process, in turn; the table shows
medians, and whether every answer is the same. `simple_evaluate` gets its task index ready made (building it costs
seconds more), and runs twice: with its default of one row a batch, and with as many rows as we get. `--grid` runs other
shapes instead. Second part: one candidate's scoring on the quickstart's three tasks, and how much of its time is not
the model's own.
"""

import argparse
import json
import os
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")

import torch
from bench_questions import CHARACTERS, make_model, make_tokenizer, write_task

from evomerge.evaluation import (
    PoolSizes,
    Prepared,
    TaskRequest,
    prepare_tasks,
)

QUICKSTART = Path(__file__).resolve().parents[1] / "experiments" / "quickstart"
LEAST_SPEED_UP, MOST_OVER_FORWARDS = 4.0, 1.3
CENTER = {"hidden": 256, "vocabulary": 8192, "context": 64, "choice": 32}
GRID: tuple[dict[str, int], ...] = (
    {},
    {"hidden": 128},
    {"hidden": 64},
    {"vocabulary": 96},
    {"vocabulary": 1024},
    {"vocabulary": 32000},
    {"context": 32},
    {"context": 128},
    {"context": 256},
    {"choice": 4},
    {"choice": 16},
    {"choice": 64},
    {"hidden": 64, "vocabulary": 96, "context": 32, "choice": 4},
    {"hidden": 128, "vocabulary": 32000, "context": 128, "choice": 16},
    {"context": 32, "choice": 64},
)


def in_turn(calls: Sequence[Callable[[], Any]], repeats: int) -> list[tuple[float, float]]:
    """Return the median (seconds, CPU seconds) of each call, made in turn: a noisy machine treats all alike."""
    taken: list[list[tuple[float, float]]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, found in zip(calls, taken, strict=True):
            started = time.perf_counter(), time.process_time()
            call()
            found.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return [(statistics.median(one[0] for one in found), statistics.median(one[1] for one in found)) for found in taken]


def versus_simple_evaluate(
    *,
    items: int = 200,
    context: int = 64,
    choice: int = 32,
    hidden: int = 256,
    vocabulary: int = 8192,
    shots: int = 0,
    batch_size: int = 64,
    dtype: str = "float32",
    device: str = "cpu",
    repeats: int = 3,
) -> dict[str, Any]:
    """Return seconds of both programs, `simple_evaluate`'s by rows a batch, and how far their answers are apart."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer = make_tokenizer(CHARACTERS[: vocabulary - 2])
    positions = (shots + 1) * (2 * context + 2 * choice)
    size = {"hidden": hidden, "layers": 6, "heads": hidden // 32, "positions": positions}
    model = make_model(vocabulary, **size, dtype=dtype, device=device)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_task(folder, items=items, context=context, choice=choice, shots=shots, vocabulary=vocabulary)
        started = time.perf_counter()
        sizes = PoolSizes(search=0, select=0, report=items)
        prepared = prepare_tasks([TaskRequest(task="four_choices")], task_path=folder, pools=sizes, seed=0)
        preparing = time.perf_counter() - started
        scorer = prepared.scorer(model, tokenizer, batch_size=batch_size)
        wanted = {"four_choices": sorted(prepared.pools["four_choices"]["report"])}
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found: dict[str, Any] = {}

        def ours() -> None:
            found["ours"] = scorer.score(wanted)["four_choices"]

        def theirs(rows: int) -> Callable[[], None]:
            peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=rows, softmax_dtype="float32")

            def call() -> None:
                result = lm_eval.simple_evaluate(peer, tasks=["four_choices"], task_manager=manager, bootstrap_iters=0)
                found[f"rows {rows}"] = {one["doc_id"]: one for one in result["samples"]["four_choices"]}

            return call

        ((first, _),) = in_turn([ours], 1)
        peers = sorted({1, batch_size})
        mine, *others = in_turn([ours, *map(theirs, peers)], repeats)
    return {
        "items": items,
        "prepare_seconds": preparing,
        "first_seconds": first,
        "seconds": mine[0],
        "simple_evaluate": {
            rows: {
                "seconds": other[0],
                "times_faster": other[0] / mine[0],
                "times_less_cpu": other[1] / mine[1],
                **differences(found["ours"], found[f"rows {rows}"]),
            }
            for rows, other in zip(peers, others, strict=True)
        },
    }


def differences(ours: Any, theirs: dict[int, Any]) -> dict[str, Any]:
    """Return the number of items whose answer differs, and the largest distance between margins."""
    distance, other_answers = 0.0, 0
    for number, value, soft in zip(ours.ids, ours.values, ours.soft, strict=True):
        sample = theirs[number]
        values = [value for ((value, _),) in sample["resps"]]
        gold = values.pop(sample["target"])
        distance = max(distance, abs(gold - max(values) - soft))
        other_answers += value != sample["acc"]
    return {"other_answers": other_answers, "largest_margin_difference": distance}


def grid(**settings: Any) -> None:
    """Print a row for each shape."""
    print("| hidden | vocabulary | context | choice | s | 1 row a batch | as many rows | other answers |")
    print("|---|---|---|---|---|---|---|---|")
    for change in GRID:
        shape = CENTER | change
        found = versus_simple_evaluate(**settings, **shape)
        ratios = [f"{peer['times_faster']:.1f}" for peer in found["simple_evaluate"].values()]
        wrong = sum(peer["other_answers"] for peer in found["simple_evaluate"].values())
        print(
            "|",
            " | ".join([*map(str, shape.values()), f"{found['seconds']:.2f}", *ratios, str(wrong)]),
            "|",
            flush=True,
        )


def quickstart(repeats: int = 15, items: int = 64, batch_size: int = 64) -> dict[str, Any]:
    """Return the seconds of scoring one candidate on the quickstart's tasks, and of its forward passes alone."""
    tasks = sorted(path.stem for path in (QUICKSTART / "tasks").glob("*.yaml"))
    sizes = PoolSizes(search=items, select=0, report=0)
    prepared = prepare_tasks([TaskRequest(task=t) for t in tasks], task_path=QUICKSTART / "tasks", pools=sizes, seed=0)
    model, tokenizer, name = _quickstart_model()
    return {"model": name} | over_forwards(prepared, model, tokenizer, batch_size=batch_size, repeats=repeats)


def over_forwards(prepared: Prepared, model: Any, tokenizer: Any, *, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of scoring the search pools once everything is warm, and the share of the forward passes."""
    scorer = prepared.scorer(model, tokenizer, batch_size=batch_size)
    wanted = {name: pools["search"] for name, pools in prepared.pools.items()}
    scorer.score(wanted)
    inside, own = [0.0, 0], model.forward

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        result = own(*args, **kwargs)
        if result.logits.is_cuda:
            torch.cuda.synchronize()
        inside[0] += time.perf_counter() - started
        inside[1] += 1
        return result

    model.forward = timed
    pairs = []
    for _ in range(repeats):
        inside[:] = [0.0, 0]
        started = time.perf_counter()
        scorer.score(wanted)
        pairs.append((time.perf_counter() - started, inside[0]))
    del model.forward
    ratio = statistics.median(total / forwards for total, forwards in pairs)
    total, forwards = (statistics.median(one) for one in zip(*pairs, strict=True))
    return {"seconds": total, "forward_seconds": forwards, "forwards": inside[1], "over_forwards": ratio}


def _quickstart_model() -> tuple[Any, Any, str]:
    """Return the quickstart's base model, or a random one of its shape where it has not been trained."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = QUICKSTART / "models" / "base"
    if (folder / "config.json").is_file():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return model, AutoTokenizer.from_pretrained(folder), "the quickstart's base"
    lines = (line for path in (QUICKSTART / "tasks" / "data").glob("*.jsonl") for line in path.read_text("utf-8"))
    tokenizer = make_tokenizer(sorted({*string.ascii_lowercase, *lines}))
    model = make_model(len(tokenizer), hidden=96, layers=6, heads=4, positions=32, dtype="float32", device="cpu")
    return model, tokenizer, "random, of that shape"


def main() -> None:
    """Run the parts that are asked for and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = {"items": 200, "shots": 0, "batch-size": 64, "repeats": 3}
    for name, default in (numbers | CENTER).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--grid", action="store_true", help="run many shapes instead of one")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = vars(parser.parse_args())
    as_json, many = options.pop("json"), options.pop("grid")
    torch.set_num_threads(1)
    if many:
        grid(**{name: value for name, value in options.items() if name not in CENTER})
        return
    peer = versus_simple_evaluate(**options)
    ours = quickstart()
    if as_json:
        print(json.dumps({"simple_evaluate": peer, "quickstart": ours}, indent=2))
        return
    print(f"{peer['items']} four-choice items: {peer['seconds']:.2f} s")
    for rows, other in peer["simple_evaluate"].items():
        print(
            f"simple_evaluate with batch_size {rows}: {other['seconds']:.2f} s, {other['times_faster']:.1f} times as "
            f"long (goal {LEAST_SPEED_UP:g}; {other['times_less_cpu']:.1f} by CPU time); other answers: "
            f"{other['other_answers']}; margins differ by {other['largest_margin_difference']:.1e} at most"
        )
    print(
        f"once: prepare {peer['prepare_seconds']:.2f} s, first call {peer['first_seconds']:.2f} s\n"
        f"quickstart ({ours['model']}): {ours['seconds'] * 1e3:.0f} ms a candidate in {ours['forwards']} forwards, "
        f"{ours['over_forwards']:.2f} times its forward passes (goal {MOST_OVER_FORWARDS:g})"
    )


if __name__ == "__main__":
    main()
