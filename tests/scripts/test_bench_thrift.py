"""The benchmark of item thrift replays races and gates on runs whose savings are known."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from evomerge.run import Run, search
from evomerge.testing.landscape_search import LandscapeExecutor, landscape_file
from evomerge.testing.landscapes import Landscape

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    yield import_module("bench_thrift")
    sys.path.remove(str(SCRIPTS))


def finished(folder: Path) -> Run:
    """A run without a race."""
    pools = {"search": 60, "select": 128, "report": 32}
    data, space = landscape_file(4, folder, seed=1, pools=pools, budget={"candidates": 20}, proof={"race": "off"})
    landscape = Landscape(4, seed=2, search_items=188, held_out_items=32)
    return search(
        data, folder / "run", space=space, executor=lambda setup: LandscapeExecutor(landscape, str(setup.refs[0]))
    )


def test_a_replayed_race_spends_less_and_picks_the_same(bench: ModuleType, tmp_path: Path) -> None:
    share, same = bench.replayed_race(finished(tmp_path))
    assert 0.25 < share < 1.0
    assert same > 0.8


def test_a_gate_saves_items_of_collapsed_candidates_only(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(tmp_path)
    assert bench.gate_saving(run) == 0.0
    monkeypatch.setattr(bench, "GATE_POINTS", -2.0)  # a bar that nobody reaches
    searched = [c for c in run.candidates() if c.kind == "candidate"]
    spent = sum(score.n for c in searched for score in c.scores["search"].values())
    assert bench.gate_saving(run) == pytest.approx(1 - bench.GATE_ITEMS * len(searched) / spent)


def test_draws_and_estimates_are_correlations(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SUBSETS", 5)
    assert all(0 < found <= 1 for found in bench.correlations(4, 0, 0.0, soft=True))
    for correlation, error in bench.estimates(4, 0, count=40, items=32):
        assert 0 < correlation <= 1
        assert 0 < error < 0.5
