"""`space: auto`: one run and one ledger through all levels, resumed in any of them."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.records import Point
from evomerge.run import Run, search
from tests.run.loop.test_guided_search import QUICKSTART, Killed, die_after
from tests.run.pico_search import differences

REFERENCES = 8


def coarse_to_fine(**changes: Any) -> dict[str, Any]:
    """Return a search over two of the quickstart's models that goes through all levels in seconds."""
    models = QUICKSTART / "models"
    return {
        "parents": {"base": str(models / "base"), "models": [str(models / name) for name in ("add", "kanji")]},
        "space": "auto",
        "tasks": [{"task": "zoo_kanji", "metric": "acc"}],
        "task_path": str(QUICKSTART / "tasks"),
        "pools": {"search": 24, "select": 8, "report": 8},
        "subset": {"size": 8},
        "budget": {"candidates": 56},
        "optimizer": {"name": "cma", "popsize": 4},
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


def test_killed_at_any_level_it_resumes_as_if_never_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = [first for first, _ in Run(finished).fact("levels")]
    deaths = (3, *(REFERENCES + first + 8 for first in levels))  # among the references, and within each level
    die_after(monkeypatch, *deaths)
    for _ in deaths:
        with pytest.raises(Killed):
            search(coarse_to_fine(), tmp_path / "run")
    search(coarse_to_fine(), tmp_path / "run")
    assert not differences(finished, tmp_path / "run")


def test_with_gradients_a_level_lasts_while_it_holds_them_and_a_killed_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = coarse_to_fine(optimizer={"name": "guided", "steps": 12}, budget={"candidates": 20})
    whole = search(data, tmp_path / "whole")
    names = [name for _, name in whole.fact("levels")]
    assert names[0] == "models" and names[-1] == "models x layers"
    die_after(monkeypatch, 13, 22)
    for _ in range(2):
        with pytest.raises(Killed):
            search(data, tmp_path / "run")
    monkeypatch.undo()
    search(data, tmp_path / "run")
    assert not differences(whole.path, tmp_path / "run")


def test_another_budget_on_resume_moves_no_level(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels end by what was planned when the run began; otherwise the recorded calls could not be repeated."""
    lines: list[str] = []

    class Listener:
        def update(self, progress: Any) -> None:
            pass

        def say(self, line: str) -> None:
            lines.append(line)

    die_after(monkeypatch, 30)
    with pytest.raises(Killed):
        search(coarse_to_fine(), tmp_path / "run")
    monkeypatch.undo()
    run = search(coarse_to_fine(budget={"candidates": 60}), tmp_path / "run", observer=Listener())
    assert run.fact("planned") == 56 and run.fact("levels") == Run(finished).fact("levels")
    assert not any("proposes other points" in line for line in lines)
    assert any(line.startswith("the search varies models x layers: 14 numbers") for line in lines)
