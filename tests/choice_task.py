"""A local lm-eval task of multiple choice, for tests."""

import json
from pathlib import Path
from typing import Any

import yaml


def write_choice_task(folder: Path, name: str, *, choices: int, count: int) -> None:
    """Write the task and its data.

    Args:
        folder: that must be there.
        name: of the task.
        choices: of each question.
        count: questions of the validation split, and of the test split.
    """
    files = {split: str(folder / f"{split}.jsonl") for split in ("validation", "test")}
    for start, file in zip((0, count), files.values(), strict=True):
        rows: list[dict[str, Any]] = [
            {"q": f"{i}+{i % 7}=", "c": list("abcde"[:choices]), "y": i * i % choices}
            for i in range(start, start + count)
        ]
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "validation_split": "validation",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "y",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
