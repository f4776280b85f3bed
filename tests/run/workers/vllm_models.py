"""Chat models that vLLM's CPU kernels take, and tasks that tell one answer from another."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks
from evomerge.testing.pico import write_pico
from tests.chat_task import FUNCTIONS, SETTINGS, TEMPLATE

HEAD_WIDTH = 32  # the narrowest attention head that vLLM has on a CPU


def write_models(folder: Path, settings: Mapping[str, Any] = SETTINGS, *, dtype: str = "float32") -> list[Path]:
    """Write two chat models with generation settings and a template of their own."""
    one = write_pico(folder / "one", 0, dtype=dtype, head_dim=HEAD_WIDTH)
    models = [one, write_pico(folder / "two", 1, near=one, dtype=dtype, head_dim=HEAD_WIDTH)]
    for model in models:
        (model / "generation_config.json").write_text(json.dumps(settings))
        (model / "chat_template.jinja").write_text(TEMPLATE)
    return models


def write_tasks(folder: Path) -> Path:
    """Write a generation task with few-shot examples and stop strings, and a multiple-choice one."""
    folder.mkdir()
    for split, count in (("train", 6), ("test", 24)):
        rows = [
            {"question": f"{split} {i}: {i * 7 % 31}+{i}", "answer": f"{'abc'[i % 3] * (i % 4 + 1)}", "label": i % 3}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "functions.py").write_text(FUNCTIONS)
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "num_fewshot": 2,
        "doc_to_text": "{{question}}",
    }
    chatting = {
        **common,
        "task": "chatting",
        "output_type": "generate_until",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["?", "ba"], "max_gen_toks": 24, "do_sample": False},
        "metric_list": [{"metric": "digest", "aggregation": "mean", "higher_is_better": True}],
    }
    choosing = {
        **common,
        "task": "choosing",
        "output_type": "multiple_choice",
        "doc_to_choice": ["ab", "cd", "ef"],
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    functions = "process_results: !function functions.digest\n"
    (folder / "chatting.yaml").write_text(yaml.safe_dump(chatting) + functions)
    (folder / "choosing.yaml").write_text(yaml.safe_dump(choosing))
    return folder


def prepared(model: Path, folder: Path, *tasks: str) -> Prepared:
    """Return all items of some of the tasks, as chats of a model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return prepare_tasks(
        [TaskRequest(task=task) for task in tasks],
        task_path=folder,
        pools=PoolSizes(search=0, select=0, report=None),
        lm_eval_options={"apply_chat_template": True},
        tokenizer=tokenizer,
        seed=0,
    )


def linear(models: list[Path], weight: float) -> dict[str, Any]:
    """Return a weighted mean of two models."""
    weights = (weight, 1 - weight)
    named = [{"model": str(m), "parameters": {"weight": w}} for m, w in zip(models, weights, strict=True)]
    return {"merge_method": "linear", "models": named}


def stack(models: list[Path]) -> dict[str, Any]:
    """Return a stack that is deeper than its parents."""
    ranges = ([0, 2], [0, 3])
    return {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": str(model), "layer_range": layers}]}
            for model, layers in zip(models, ranges, strict=True)
        ],
    }
