"""The benchmark of fronts: its searches are valid, and its table compares seed by seed."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evomerge.run import check_search

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    yield import_module("bench_pareto")
    sys.path.remove(str(SCRIPTS))


def test_every_search_judges_a_whole_front(bench: Any) -> None:
    for optimizer in bench.OPTIMIZERS:
        setup = check_search(bench.search_file(optimizer, seed=1, items=5000))
        assert setup.optimizer == optimizer or optimizer == "auto"
        assert setup.judges_front and len(setup.objectives) == 2


def test_the_table_compares_the_same_seeds(bench: Any) -> None:
    volumes = {("auto", 0): 0.3, ("auto", 1): 0.1, ("nsga2", 0): 0.2, ("nsga2", 1): 0.2, ("cma", 0): 0.3}
    rows = [{"optimizer": name, "seed": seed, "hypervolume": v, "front": [[]]} for (name, seed), v in volumes.items()]
    lines = bench.table(rows).splitlines()
    assert lines[2].startswith("| auto | 2 | 0.200 | 0.300, 0.100 | 1 |")
    assert lines[3].endswith("| 1 of 2 |") and lines[4].endswith("| 1 of 1 |")
