"""`space: auto`: one run and one ledger through all levels, resumed in any of them."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.records import Point
from evomerge.run import Run, search
from evomerge.run.loop import SearchLoop
from tests.run.loop.test_guided_search import QUICKSTART
from tests.run.pico_search import differences


def coarse_to_fine(**changes: Any) -> dict[str, Any]:
    """Return a search over two of the quickstart's models that goes through all levels in seconds."""
    models = QUICKSTART / "models"
    return {
        "parents": {"base": str(models / "base"), "models": [str(models / name) for name in ("add", "kanji")]},
        "space": "auto",
        "tasks": [{"task": "zoo_kanji", "metric": "acc"}],
        "task_path": str(QUICKSTART / "tasks"),
        "pools": {"search": 64, "select": 16, "report": 16},
        "budget": {"candidates": 32},
        "optimizer": {"name": "guided", "steps": 28, "popsize": 4},
        "workers": {"count": 0},
        "proof": {"finalists": 2},
        **changes,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return search(coarse_to_fine(), tmp_path_factory.mktemp("levels") / "run").path


def weights(point: Point, models: int = 2) -> list[list[float]]:
    size = len(point.reals) // models
    return [list(point.reals[i * size : (i + 1) * size]) for i in range(models)]


def test_it_goes_through_all_levels(finished: Path) -> None:
    run = Run(finished)
    names = [name for _, name in run.fact("levels")]
    assert names == ["models", "models x module groups", "models x curves of 3 knots over depth", "models x layers"]
    candidates = [c for c in run.candidates() if c.kind == "candidate"]
    second = run.fact("levels")[1][0]
    for candidate in candidates[:second]:
        assert candidate.point is not None
        for model in weights(candidate.point):
            assert max(model) - min(model) < 1e-8, "one number for each model"
    last = candidates[-1].point
    assert last is not None and any(max(model) - min(model) > 0.01 for model in weights(last))
    assert run.state == "done" and run.verdict is not None


class Killed(Exception):
    """The end of a driver in the middle of a search."""


@pytest.mark.parametrize("when", [3, 12, 20, 29])
def test_killed_at_any_level_it_resumes_as_if_never_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    remember = SearchLoop._remember

    def dying(self: SearchLoop, result: Any) -> None:
        remember(self, result)
        if self.state.done == when:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(SearchLoop, "_remember", dying)
        with pytest.raises(Killed):
            search(coarse_to_fine(), tmp_path / "run")
    search(coarse_to_fine(), tmp_path / "run")
    assert not differences(finished, tmp_path / "run")


def test_another_budget_on_resume_does_not_move_the_levels(finished: Path, tmp_path: Path) -> None:
    """Levels end by what was planned when the run began; otherwise the recorded calls could not be repeated."""
    lines: list[str] = []
    stopped = {"done": False}

    class Few:
        def update(self, progress: Any) -> None:
            stopped["done"] = progress.done >= 10

        def say(self, line: str) -> None:
            lines.append(line)

    search(coarse_to_fine(budget={"candidates": 12}), tmp_path / "few", observer=Few())
    names = [name for _, name in Run(tmp_path / "few").fact("levels")]
    assert names == [name for _, name in Run(finished).fact("levels")][: len(names)]
    assert any("the search varies models" in line for line in lines)
