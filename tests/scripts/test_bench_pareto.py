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


class StoppedRun:
    """What `search` returns after a SIGTERM in its proof: references without report scores."""

    state = "proving"


def test_the_table_compares_the_same_seeds(bench: Any) -> None:
    volumes = {("auto", 0): 0.3, ("auto", 1): 0.1, ("nsga2", 0): 0.2, ("nsga2", 1): 0.2, ("cma", 0): 0.3}
    rows = [
        {"optimizer": name, "seed": seed, "front": [[]], "hypervolume": volume, bench.ABOVE_ZERO: 2 * volume}
        for (name, seed), volume in volumes.items()
    ]
    lines = bench.table(rows).splitlines()
    assert lines[2] == "| auto | 2 | 1 | 0.200 | 0.300, 0.100 |  | 0.400 | 0.600, 0.200 |  |"
    assert lines[3] == "| nsga2 | 2 | 1 | 0.200 | 0.200, 0.200 | 1 of 2 | 0.400 | 0.400, 0.400 | 1 of 2 |"
    assert lines[4] == "| cma | 1 | 1 | 0.300 | 0.300 | 1 of 1 | 0.600 | 0.600 | 1 of 1 |"
    assert {line.count("|") for line in lines} == {10}


def test_a_stopped_search_is_no_result(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "search", lambda file, out: StoppedRun())
    with pytest.raises(SystemExit, match="cma, seed 3: stopped while proving"):
        bench.measured("cma", seed=3, items=100)
