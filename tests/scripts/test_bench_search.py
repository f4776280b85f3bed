"""The benchmark of searches counts every (candidate, item), on landscapes so small that its results mean nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from evomerge.records import Point
from evomerge.testing.landscape_search import LandscapeSpace
from evomerge.testing.spaces import SpaceContract

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DIMENSIONS = 4
SIZES = {"SEARCH_ITEMS": 80, "SELECT_ITEMS": 30, "REPORT_ITEMS": 50, "FIRST_ITEMS": 10, "FORMER_ITEMS": 20}
REFERENCES = 6  # base, model and task arithmetic at four weights


@pytest.fixture(autouse=True)
def scripts_on_path() -> Iterator[None]:
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture
def bench(scripts_on_path: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with few items."""
    module = import_module("bench_search")
    for name, size in SIZES.items():
        monkeypatch.setattr(module, name, size)
    return module


class Scored:
    """An executor that notes every item that another one scores."""

    def __init__(self, inner: Any):
        self._inner = inner
        self.items: list[tuple[str, int]] = []  # (pool, item)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, job: Any) -> None:
        self.items += [(job.pool, item) for ids in job.items.values() for item in ids]
        self._inner.submit(job)

    def count(self, pool: str) -> int:
        return sum(scored == pool for scored, _ in self.items)


def bed_of(bench: ModuleType, folder: Path, budget: int) -> tuple[Any, Scored]:
    """Return a small landscape and what notes its items."""
    bed = bench.landscape_bed(DIMENSIONS, 3, folder, budget=budget)
    scored = Scored(bed.executor)
    return bed._replace(executor=scored), scored


@pytest.mark.parametrize("name", ["mergekit-evolve", "random search", "CMA-ES, full pool", "evomerge's former default"])
def test_items_of_a_policy_are_counted(bench: ModuleType, tmp_path: Path, name: str) -> None:
    budget = 1500
    bed, scored = bed_of(bench, tmp_path, budget)
    found = bench.run_policy(bench.POLICIES[name], bed, 0, budget)
    assert found.items == {"search": scored.count("search"), "select": 0, "report": 0}
    each = {"CMA-ES, full pool": SIZES["SEARCH_ITEMS"], "evomerge's former default": SIZES["FORMER_ITEMS"]}.get(
        name, 10
    )
    assert budget - each < found.items["search"] <= budget
    assert [pick.items for pick in found.picks] == sorted(pick.items for pick in found.picks)
    if bench.POLICIES[name].references:
        assert found.picks[0].items == REFERENCES * SIZES["SEARCH_ITEMS"]
    if name == "mergekit-evolve":
        first = set(bed.setup.prepared.pools["landscape"]["search"][:10])
        assert {item for pool, item in scored.items if pool == "search"} == first


def test_items_of_the_product_are_counted(bench: ModuleType, tmp_path: Path) -> None:
    budget = 2500
    bed, scored = bed_of(bench, tmp_path, budget)
    found = bench.run_product(bed)
    assert found.items["search"] == scored.count("search") >= budget
    assert found.items["search"] < budget + 10 * SIZES["SEARCH_ITEMS"]
    assert found.items["select"] == scored.count("select") > 0
    held_out = SIZES["REPORT_ITEMS"]  # of the pick, once more for the benchmark
    assert found.items["report"] == scored.count("report") - held_out
    assert found.picks and found.picks[-1].items == found.items["search"]


def test_an_item_with_a_backward_pass_counts_as_three(bench: ModuleType) -> None:
    def outcome(gradient: object, attempts: int = 1) -> SimpleNamespace:
        return SimpleNamespace(gradient=gradient, attempts=attempts)

    job = SimpleNamespace(pool="search", items={"a": (1, 2), "b": (5,)})
    finished = [(job, outcome(None)), (job, outcome([1.0])), (job, outcome(None, attempts=2)), (job, outcome(None, 0))]
    counting = bench.CountingExecutor(SimpleNamespace(wait=lambda timeout: finished))
    assert counting.wait(1.0) == finished
    assert counting.items == {"search": 3 + 9 + 6 + 3, "select": 0, "report": 0}


def test_reach_is_the_first_pick_that_is_as_good(bench: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    values = {100: 0.5, 104: 0.9, 200: 0.6, 300: 0.7, 400: 0.65}
    picks = [bench.Pick(items, Point(reals=(items / 1000,))) for items in values]
    monkeypatch.setattr(bench, "held_out", lambda bed, point: values[round(point.reals[0] * 1000)])
    assert bench.reach(None, picks, 0.65) == 300  # the pick at 104 is too near to the one before to be looked at
    assert bench.reach(None, picks, 0.5) == 100
    assert bench.reach(None, picks, 0.8) is None


class TestLandscapeSpace(SpaceContract):
    def create(self) -> Any:
        return LandscapeSpace(DIMENSIONS, "base", "one")


def test_what_was_measured_is_not_measured_again(bench: ModuleType) -> None:
    rows: Sequence[Mapping[str, Any]] = [
        {"bed": "landscape-8", "seed": 0, "policy": "mergekit-evolve", "final": 0.6},
        {"bed": "landscape-8", "seed": 0, "policy": "evomerge", "final": 0.61},
    ]
    todo = bench.todo_of(rows, ["landscape-8"], ["evomerge", "random search"], 2)
    assert todo == [
        ("landscape-8", 0, "random search"),
        ("landscape-8", 1, "mergekit-evolve"),
        ("landscape-8", 1, "evomerge"),
        ("landscape-8", 1, "random search"),
    ]


def test_table_gives_medians_and_the_worst_seed(bench: ModuleType) -> None:
    def row(policy: str, seed: int, final: float, reach: int | None, items: int = 1000) -> dict[str, Any]:
        goal = {"goal": 0.6, "select": 10, "report": 20}
        return {"bed": "b", "seed": seed, "policy": policy, "final": final, "reach": reach, "items": items} | goal

    rows = [row(bench.GOAL, seed, 0.6, 900) for seed in range(3)]
    rows += [
        row("evomerge", seed, final, reach) for seed, final, reach in ((0, 0.7, 100), (1, 0.65, 200), (2, 0.5, None))
    ]
    line = bench.table(rows, "b").splitlines()[-1]
    assert line == "| evomerge | 3 | 1,000 | 2 of 3 | 200 | 1/5.0 | 0.650 | +0.050 | -0.100 | 30 |"
