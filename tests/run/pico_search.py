"""The files of a search over pico parents with plain Python scorers, and what its ledger holds."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SCORERS = '''
"""Scores how near a model's weights are to hidden mixtures of the parents; some functions misbehave on purpose.

PICO_SLEEP: seconds that a call takes. PICO_LOG: a file that gets one line for each finished call;
the same name with .begun appears when a call begins.
"""
import os
import time
from functools import cache

from safetensors import safe_open

NAME = "model.layers.1.mlp.down_proj.weight"


def weights(model):
    return model.get_parameter(NAME).float()


@cache
def target_of(root, one_share, two_share):
    files = [f"{root}/{parent}/model.safetensors" for parent in ("base", "one", "two")]
    base, one, two = (safe_open(file, "pt").get_tensor(NAME).float() for file in files)
    return base + one_share * (one - base) + two_share * (two - base), (one - base).norm()


def distance(model, items, one_share, two_share):
    target, unit = target_of(items[0]["root"], one_share, two_share)
    return float((weights(model) - target).norm() / unit)


def scored(model, items, one_share, two_share):
    if "PICO_LOG" in os.environ:
        open(os.environ["PICO_LOG"] + ".begun", "w").close()
    if "PICO_SLEEP" in os.environ:
        time.sleep(float(os.environ["PICO_SLEEP"]))
    far = distance(model, items, one_share, two_share)
    values = [1.0 if far < item["tolerance"] else 0.0 for item in items]
    if "PICO_LOG" in os.environ:
        with open(os.environ["PICO_LOG"], "a") as stream:
            stream.write(f"{os.getpid()} {len(items)}\\n")
    return values


def nearness(model, tokenizer, items):
    return scored(model, items, 0.9, 0.3)


def otherness(model, tokenizer, items):
    return scored(model, items, 0.2, 1.1)


def farness(model, tokenizer, items):
    far = distance(model, items, 0.9, 0.3)
    return [far * item["tolerance"] for item in items]


def mark(model):
    """A number that any change of the weights changes."""
    return int(weights(model).double().abs().sum() * 1e6)


def moody(model, tokenizer, items):
    if mark(model) % 3 == 0:
        raise RuntimeError("not this one")
    return nearness(model, tokenizer, items)


def parents_only(model, tokenizer, items):
    """Scores references (the whole search pool) and nothing else."""
    if len(items) == items[0]["subset"]:
        raise RuntimeError("no candidate")
    return nearness(model, tokenizer, items)


def never(model, tokenizer, items):
    raise RuntimeError("not today")


def needs_a_file(model, tokenizer, items):
    if not os.path.exists(os.path.join(os.path.dirname(__file__), "needs.txt")):
        raise FileNotFoundError("needs.txt")
    return nearness(model, tokenizer, items)


def nan(model, tokenizer, items):
    return [float("nan")] * len(items) if len(items) == items[0]["subset"] else nearness(model, tokenizer, items)


def short(model, tokenizer, items):
    return [1.0] * (len(items) - 1) if len(items) == items[0]["subset"] else nearness(model, tokenizer, items)


def words(model, tokenizer, items):
    return ["good"] * len(items) if len(items) == items[0]["subset"] else nearness(model, tokenizer, items)


def nothing(model, tokenizer, items):
    return None if len(items) == items[0]["subset"] else nearness(model, tokenizer, items)


def huge(model, tokenizer, items):
    return [1e308] * len(items) if len(items) == items[0]["subset"] else nearness(model, tokenizer, items)


def leaving(model, tokenizer, items):
    if len(items) == items[0]["subset"]:
        raise SystemExit(3)
    return nearness(model, tokenizer, items)


def reseeding(model, tokenizer, items):
    """Sets every global generator, as benchmarks do."""
    import random

    import numpy as np
    import torch

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    return nearness(model, tokenizer, items)
'''

SUBSET = 40
WHOLE_PROOF = {"finalists": 4}
NEW_RUN = {
    "state": "searching",
    "folder": ".",
    "identity": {},
    "objectives": [],
    "search": {},
}  # what is in every ledger


def search_data(pico: Mapping[str, Path], **changes: Any) -> dict[str, Any]:
    """Return the content of a search file whose inline candidates take tens of milliseconds, with changes.

    Its proof is as small as one can be, unless that is what a test is about (`WHOLE_PROOF`).
    """
    return {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "layer"], "range": [0, 1.5]}}},
        "tasks": [task()],
        # The loop is tested with an optimizer that asks at once; test_guided_search.py tests the one that waits.
        **({} if "space" in changes else {"optimizer": "cma"}),
        "pools": {"search": 100, "select": 80, "report": 100},
        "subset": {"size": SUBSET},
        "budget": {"candidates": 60},
        "workers": {"count": 0},
        "proof": {"finalists": 2, "race": "off", "report": "chosen"},
        "seed": 3,
        **changes,
    }


def task(function: str = "nearness", **more: Any) -> dict[str, Any]:
    """Return one entry of `tasks:`."""
    return {"scorer": f"near.py:{function}", "items": "items.jsonl", **more}


def write_search(folder: Path, pico: Mapping[str, Path], **changes: Any) -> Path:
    """Write a search file with its scorers and items."""
    folder.mkdir(parents=True, exist_ok=True)
    root = str(pico["base"].parent)
    (folder / "near.py").write_text(SCORERS)
    items = [{"number": i, "tolerance": (i % 97) / 90 + 0.05, "root": root, "subset": SUBSET} for i in range(300)]
    (folder / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    (folder / "search.yaml").write_text(yaml.safe_dump(search_data(pico, **changes)))
    return folder / "search.yaml"


def rows(run: Path, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return table -> rows of a run's ledger, times aside."""
    with sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True) as connection:
        found = {}
        for table in tables or ("candidate", "score", "item", "step", "meta"):
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
            kept = [i for i, column in enumerate(cursor.description) if column[0] != "seconds"]
            found[table] = [tuple(row[i] for i in kept) for row in cursor]
        found["meta"] = sorted(row for row in found.get("meta", []) if row[0] not in ("seconds", "busy", "cost"))
    connection.close()
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Return the tables in which two runs' ledgers differ, times aside, with the first difference of each."""
    first, second = rows(one), rows(other)
    found = []
    for table in first:
        if first[table] != second[table]:
            pairs = zip(first[table], second[table], strict=False)
            odd = next((pair for pair in pairs if pair[0] != pair[1]), "the number of rows")
            found.append(f"{table}: {odd}")
    return found
