"""The benchmark of the default search runs whole, counts as if each run were alone, and scores nothing twice."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, on landscapes with few items."""
    sys.path.insert(0, str(SCRIPTS))
    search = import_module("bench_search")
    for name, size in {"SEARCH_ITEMS": 80, "SELECT_ITEMS": 30, "REPORT_ITEMS": 50}.items():
        monkeypatch.setattr(search, name, size)
    yield import_module("bench_defaults")
    sys.path.remove(str(SCRIPTS))


class Submitted:
    """An executor that notes the jobs that reach it."""

    def __init__(self, inner: Any):
        self._inner = inner
        self.jobs: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, job: Any) -> None:
        self.jobs.append(job)
        self._inner.submit(job)


def test_a_second_run_of_a_seed_scores_nothing_again_and_counts_the_same(bench: ModuleType, tmp_path: Path) -> None:
    bed = import_module("bench_search").landscape_bed(4, 3, tmp_path, budget=1500)
    scored = Submitted(bed.executor)
    executor = bench.RememberingExecutor(scored)
    first = bench.run_product(bed.setup, executor)
    jobs = len(scored.jobs)
    assert bench.run_product(bed.setup, executor) == first and len(scored.jobs) == jobs > 10
    assert first["search"] >= 1500 and first["select"] > 0 and first["report"] % 50 == 0
    assert first["claimed"] == (first["interval"][0] > 0)


def test_reach_is_the_first_look_that_is_good_enough(bench: ModuleType, tmp_path: Path) -> None:
    bed = import_module("bench_search").landscape_bed(4, 3, tmp_path, budget=1500)
    executor = bench.RememberingExecutor(bed.executor)
    assert 0 < bench.run_search(bed.setup, executor, 0.0)["reach"] < 1500
    never = bench.run_search(bed.setup, executor, 1.1)
    assert never["reach"] is None and never["select"] == never["report"] == 0


def test_the_table_has_a_line_for_each_budget(bench: ModuleType) -> None:
    proved = {"reference": 0.8, "held_out": 0.82, "claimed": True, "search": 10}
    rows = [
        {"zoo": "natural", "budget": "50 candidates", **proved},
        {"zoo": "natural", "budget": "50 candidates", **proved, "held_out": 0.78, "claimed": False},
        {"zoo": "quickstart", "budget": "8,000 items", "goal": 0.9, "reach": 1234, "held_out": 0.95, "search": 8000},
    ]
    lines = bench.table(rows).splitlines()[2:]
    assert lines[0] == "| natural | 50 candidates | auto | 2 | 10 | 0.800 | 0.800 | +0.020, -0.020 | 1 | 1 of 2 |  |"
    assert lines[1] == "| quickstart | 8,000 items | auto | 1 | 8,000 |  | 0.950 |  |  |  | 1,234 |"
