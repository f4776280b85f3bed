"""Time generated answers against `lm_eval.simple_evaluate`, and compare them text by text.

Usage: python scripts/bench_generate.py [--items 200] [--prompt 24 240] [--answer 128] [--shots 0] [--hidden 256]
           [--layers 6] [--vocabulary 8192] [--rows 16] [--dtype float32] [--threads 1] [--device cpu] [--repeats 3]
           [--json]

Prompts of 24 to 240 tokens on a random Llama whose answers end by themselves after 1 to 128 tokens, or are cut off
there. All answer with the same weights in the same process, in turn; the table shows medians, and how many answers are
not the same text. `simple_evaluate` runs twice: with its default of one row a batch, and with as many rows as we get.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import zlib
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")

import torch
import yaml
from bench_evaluate import in_turn
from bench_questions import CHARACTERS, make_model, make_tokenizer

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

LEAST_SPEED_UP = 3.0
END_GAIN = 2.0  # by which the end token's logit varies more than others': it then leads in about one step of forty
FUNCTIONS = '''
import zlib

def digest(doc, results):
    """A number that tells one answer from another."""
    return {"digest": zlib.crc32(results[0].encode())}
'''


def write_task(folder: Path, *, items: int, prompt: tuple[int, int], answer: int, shots: int, vocabulary: int) -> None:
    """Write a task whose prompts are random characters of lengths spread evenly between two."""
    rng = random.Random(0)
    letters = CHARACTERS[: vocabulary - 2]
    for split, count in (("train", shots), ("test", items)):
        rows = [{"text": "".join(rng.choices(letters, k=rng.randint(*prompt))), "answer": ""} for _ in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    splits = ["train", "test"][not shots :]
    task = {
        "task": "generated",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(folder / f"{split}.jsonl") for split in splits}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "generation_kwargs": {"until": [letters[0]], "max_gen_toks": answer, "do_sample": False},
        "metric_list": [{"metric": "digest", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": shots,
    } | ({"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}} if shots else {})
    (folder / "functions.py").write_text(FUNCTIONS, encoding="utf-8")
    text = yaml.safe_dump(task) + "process_results: !function functions.digest\n"
    (folder / "generated.yaml").write_text(text, encoding="utf-8")


def versus_simple_evaluate(
    *,
    items: int,
    prompt: tuple[int, int],
    answer: int,
    shots: int,
    hidden: int,
    layers: int,
    vocabulary: int,
    rows: int,
    dtype: str,
    device: str,
    repeats: int,
) -> dict[str, Any]:
    """Return seconds of both programs, and how many of their answers differ."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer = make_tokenizer(CHARACTERS[: vocabulary - 2])
    positions = (shots + 1) * prompt[1] + answer + 8
    model = make_model(
        vocabulary, hidden=hidden, layers=layers, heads=hidden // 32, positions=positions, dtype=dtype, device=device
    )
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= END_GAIN
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_task(folder, items=items, prompt=prompt, answer=answer, shots=shots, vocabulary=vocabulary)
        sizes = PoolSizes(search=0, select=0, report=items)
        options = {"max_cut_answers": 1.0}
        prepared = prepare_tasks(
            [TaskRequest(task="generated")], task_path=folder, pools=sizes, seed=0, lm_eval_options=options
        )
        scorer = prepared.scorer(model, tokenizer, batch_size=rows)
        wanted = {"generated": sorted(prepared.pools["generated"]["report"])}
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found: dict[Any, dict[int, float]] = {}
        lengths: list[int] = []

        def ours() -> None:
            scores = scorer.score(wanted)["generated"]
            found["ours"] = dict(zip(scores.ids, scores.values, strict=True))

        def theirs(size: int) -> Any:
            peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size)

            def call() -> None:
                result = lm_eval.simple_evaluate(peer, tasks=["generated"], task_manager=manager, bootstrap_iters=0)
                assert result is not None
                samples = result["samples"]["generated"]
                lengths[:] = [len(sample["resps"][0][0]) for sample in samples]
                found[size] = {
                    sample["doc_id"]: float(zlib.crc32(sample["resps"][0][0].encode())) for sample in samples
                }

            return call

        peers = sorted({1, rows})
        mine, *others = in_turn([ours, *map(theirs, peers)], repeats)
    return {
        "items": items,
        "answer_tokens": {"mean": statistics.mean(lengths), "median": statistics.median(lengths)},
        "different_answers": len(set(found["ours"].values())),
        "seconds": mine[0],
        "simple_evaluate": {
            size: {
                "seconds": other[0],
                "times_faster": other[0] / mine[0],
                "times_less_cpu": other[1] / mine[1],
                "other_answers": sum(found[size][i] != value for i, value in found["ours"].items()),
                "other_than_one_row": sum(found[size][i] != value for i, value in found[1].items()),
            }
            for size, other in zip(peers, others, strict=True)
        },
    }


def main() -> None:
    """Run it and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = {"items": 200, "answer": 128, "shots": 0, "hidden": 256, "layers": 6, "vocabulary": 8192, "rows": 16}
    for name, default in (numbers | {"repeats": 3, "threads": 1}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--prompt", type=int, nargs=2, default=(24, 240), help="tokens of the shortest and the longest")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    torch.set_num_threads(options.pop("threads"))
    found = versus_simple_evaluate(**options)
    found["load"] = os.getloadavg()[0]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['items']} answers of {found['answer_tokens']['mean']:.0f} tokens on the average (median "
        f"{found['answer_tokens']['median']:.0f}; {found['different_answers']} different): {found['seconds']:.2f} s; "
        f"load {found['load']:.1f}"
    )
    for size, other in found["simple_evaluate"].items():
        print(
            f"simple_evaluate with batch_size {size}: {other['seconds']:.2f} s, {other['times_faster']:.1f} times as "
            f"long (goal {LEAST_SPEED_UP:g}; {other['times_less_cpu']:.1f} by CPU time); other answers than ours: "
            f"{other['other_answers']}, than its own with one row: {other['other_than_one_row']}"
        )


if __name__ == "__main__":
    main()
