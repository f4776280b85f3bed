"""Functions and evaluator objects in a search that is given as a mapping."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_registry import Counting

from evomerge import run as runs
from evomerge.errors import InvalidInput


def norm(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    """Return the size of a weight, a little different for each item."""
    weight = model.get_parameter("model.layers.1.mlp.down_proj.weight")
    return [float(torch.linalg.vector_norm(weight.float())) + item["i"] for item in items]


def search(pico: dict[str, Path], **first_task: Any) -> dict[str, Any]:
    """Return a small search whose second task is an evaluator's."""
    return {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model"], "range": [0, 1.5]}}},
        "tasks": [
            {"scorer": norm, "items": [{"i": i} for i in range(12)], "name": "size"} | first_task,
            {"evaluator": "counting", "count": 12, "weight": 2},
        ],
        "pools": {"search": 4, "select": 4, "report": 4},
        "subset": {"size": 2},
        "budget": {"candidates": 4},
        "workers": {"count": 0},
    }


def test_a_function_and_an_evaluator_object(pico: dict[str, Path], tmp_path: Path) -> None:
    run = runs.search(search(pico), tmp_path / "run", evaluators=[Counting()])
    assert run.state == "done" and [objective.name for objective in run.objectives] == ["size", "counting"]
    again = runs.search(search(pico), tmp_path / "run", evaluators=[Counting()])
    assert again.state == "done"


def test_another_function_is_another_search(pico: dict[str, Path], tmp_path: Path) -> None:
    runs.search(search(pico), tmp_path / "run", evaluators=[Counting()])
    with pytest.raises(InvalidInput, match="scorer_digest"):
        runs.search(search(pico, scorer=lambda *_: [0.0]), tmp_path / "run", evaluators=[Counting()])
    with pytest.raises(InvalidInput, match="counting"):
        runs.search(search(pico), tmp_path / "run", evaluators=[Counting(3)])
