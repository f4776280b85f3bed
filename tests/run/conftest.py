"""A search over pico parents with a plain Python scorer: real merges, no language, milliseconds a candidate."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

SCORER = '''
"""Scores how near a model's first attention weights are to a hidden mixture of the parents."""
import torch

from safetensors.torch import load_file


def nearness(model, tokenizer, items):
    name = "model.layers.1.mlp.down_proj.weight"
    now = dict(model.named_parameters())[name].float()
    base, one, two = (load_file(f"{items[0]['root']}/{p}/model.safetensors")[name].float() for p in ("base", "one", "two"))
    target = base + 0.9 * (one - base) + 0.3 * (two - base)
    distance = float((now - target).norm() / (target - base).norm())
    return [1.0 if distance < item["tolerance"] else 0.0 for item in items]
'''


@pytest.fixture
def search_file(pico: dict[str, Path], tmp_path: Path) -> Path:
    """A search file that inline candidates of about 10 ms go through."""
    root = pico["base"].parent
    (tmp_path / "near.py").write_text(SCORER)
    lines = [json.dumps({"number": i, "tolerance": (i % 97) / 90 + 0.05, "root": str(root)}) for i in range(300)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search_data(pico)))
    return tmp_path / "search.yaml"


def search_data(pico: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """Return the content of that search file, with changes."""
    return {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "layer"], "range": [0, 1.5]}}},
        "tasks": [{"scorer": "near.py:nearness", "items": "items.jsonl"}],
        "pools": {"search": 100, "select": 80, "report": 100},
        "subset": {"size": 40},
        "budget": {"candidates": 60},
        "workers": {"count": 0},
        "proof": {"finalists": 4},
        "seed": 3,
        **changes,
    }
