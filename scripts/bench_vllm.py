"""Seconds for each candidate of a task that generates: the vLLM engine, the transformers engine, and a fresh vLLM.

Usage: .venv-vllm/bin/python scripts/bench_vllm.py [--candidates 50] [--fresh 3] [--layers 8] [--width 256]

Every candidate is scored by both engines in turn, in one process, and their answers are compared, item by item. A few
are also exported and answered by vLLM in a process of its own, which is what a search without resident engines does.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
import yaml

from evomerge import merge
from evomerge.engine.vllm import VllmOptions
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.records import ItemScores
from evomerge.run import CandidateScorer, Job, WorkerSetup
from evomerge.testing.pico import write_pico

ITEMS = 32
ANSWER_TOKENS = 32
FUNCTIONS = '''
import zlib

def digest(doc, results):
    """A number that tells one answer from another."""
    return {"digest": zlib.crc32(results[0].encode()) / 2**32}
'''


def write_parents(folder: Path, layers: int, width: int) -> list[Path]:
    """Write two random models whose answers are long."""
    shape = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "num_key_value_heads": width // 64,
        "head_dim": 64,
        "max_position_embeddings": 256,
    }
    one = write_pico(folder / "one", 0, **shape)
    return [one, write_pico(folder / "two", 1, near=one, **shape)]


def prepare(folder: Path) -> Prepared:
    """Write and prepare a task of short questions with answers of up to ANSWER_TOKENS tokens."""
    rows = [{"question": f"{i}: {'abcdefg'[i % 7] * (i % 40)}?"} for i in range(ITEMS)]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "functions.py").write_text(FUNCTIONS)
    task = {
        "task": "answering",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "test.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "",
        "generation_kwargs": {"until": ["%"], "max_gen_toks": ANSWER_TOKENS, "do_sample": False},
        "metric_list": [{"metric": "digest", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "answering.yaml").write_text(yaml.safe_dump(task) + "process_results: !function functions.digest\n")
    pools = PoolSizes(search=0, select=0, report=None)
    options = {"max_cut_answers": 1.0}
    return prepare_tasks(
        [TaskRequest(task="answering")], task_path=folder, pools=pools, seed=0, lm_eval_options=options
    )


def recipe(parents: list[Path], weight: float) -> dict[str, Any]:
    """Return a weighted mean of the parents."""
    weights = (weight, 1 - weight)
    named = [{"model": str(p), "parameters": {"weight": w}} for p, w in zip(parents, weights, strict=True)]
    return {"merge_method": "linear", "models": named}


def scored(worker: CandidateScorer, document: Mapping[str, Any]) -> tuple[float, ItemScores]:
    """Return the seconds that a worker takes for a candidate, and the items' scores."""
    items = {"answering": worker.setup.prepared.pools["answering"]["report"]}
    started = time.perf_counter()
    outcome = worker.score(Job(candidate=0, pool="report", document=document, items=items))
    if outcome.items is None:
        sys.exit(f"a candidate failed: {outcome.failure}")
    return time.perf_counter() - started, outcome.items["answering"]


def fresh(parents: list[Path], weight: float, folder: Path, found: ItemScores, tasks: Prepared) -> tuple[float, int]:
    """Export a candidate and answer the items by a vLLM of its own.

    Returns:
        Seconds, and for how many items the answer is the one that was scored.
    """
    source = next(iter(tasks.tasks["answering"].items.sources.values()))
    prompts = [source.items[number].requests[0].arguments[0] for number in found.ids]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    started = time.perf_counter()
    merge(parse_recipe(recipe(parents, weight)), folder / "out")
    command = [sys.executable, __file__, "--answer", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    digests = [zlib.crc32(text.encode()) / 2**32 for text in json.loads((folder / "answers.json").read_text())]
    return seconds, sum(abs(one - other) < 1e-12 for one, other in zip(digests, found.values, strict=True))


def answer(folder: Path) -> None:
    """Answer the prompts of a folder by vLLM on the model there."""
    from vllm import LLM

    model = LLM(str(folder / "out"), dtype="float32", enforce_eager=True, kv_cache_memory_bytes=1 << 28)
    tokenizer = model.get_tokenizer()
    parameters = model.get_default_sampling_params()
    parameters.temperature, parameters.max_tokens, parameters.stop = 0.0, ANSWER_TOKENS, ["%"]
    prompts = [
        {"prompt_token_ids": tokenizer.encode(text)} for text in json.loads((folder / "prompts.json").read_text())
    ]
    outputs = [output.outputs[0].token_ids for output in model.generate(prompts, parameters, use_tqdm=False)]
    answers = [tokenizer.decode(tokens, skip_special_tokens=True).partition("%")[0] for tokens in outputs]
    (folder / "answers.json").write_text(json.dumps(answers))


def main(options: argparse.Namespace) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "tasks").mkdir()
        parents, tasks = write_parents(folder, options.layers, options.width), prepare(folder / "tasks")
        common = {"root": None, "prepared": tasks, "batch_size": ITEMS, "threads": 1, "device": options.device}
        refs = tuple(ModelRef.parse(str(parent)) for parent in parents)
        engines = {
            "vLLM": CandidateScorer(WorkerSetup(parents=refs, vllm=VllmOptions(), **common), "vllm"),
            "transformers": CandidateScorer(WorkerSetup(parents=refs, **common), "transformers"),
        }
        for worker in engines.values():  # starts, self-check, first compilation
            scored(worker, recipe(parents, 0.5))
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        memory, equal, total = [], 0, 0
        for number in range(options.candidates):
            weight, found = number / options.candidates, {}
            for name, worker in engines.items():
                taken, found[name] = scored(worker, recipe(parents, weight))
                seconds[name].append(taken)
            memory.append(psutil.Process().memory_info().rss)
            print({name: round(taken[-1], 2) for name, taken in seconds.items()}, file=sys.stderr, flush=True)
            pairs = zip(found["vLLM"].values, found["transformers"].values, strict=True)
            equal, total = equal + sum(one == other for one, other in pairs), total + ITEMS
        again, same = [], 0
        for number in range(options.fresh):
            (folder / f"fresh{number}").mkdir()
            weight = number / max(1, options.fresh)
            _, found_there = scored(engines["vLLM"], recipe(parents, weight))
            taken, hits = fresh(parents, weight, folder / f"fresh{number}", found_there, tasks)
            again.append(taken)
            same += hits
        for name in engines:
            print(f"| {name} | {statistics.median(seconds[name]):.2f} s | {options.candidates} candidates |")
        print(f"| export + fresh vLLM | {statistics.median(again):.1f} s | {options.fresh} candidates |")
        print(f"answers equal: vLLM and transformers {equal} of {total}; fresh vLLM {same} of {options.fresh * ITEMS}")
        tenth = max(1, options.candidates // 5)
        print(f"resident memory: {memory[tenth - 1] >> 20} MiB after {tenth} candidates, {memory[-1] >> 20} at the end")
        print(f"load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        engines["vLLM"].close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--fresh", type=int, default=3)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer is not None:
        answer(given.answer)
    else:
        main(given)
