"""`evomerge.search` as a function: progress where somebody looks on, a warning when interrupted, frames with times."""

import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import evomerge
from evomerge.run import Progress, Run, SilentObserver
from tests.run.pico_search import search_data, write_search


def small(pico: dict[str, Path], folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the content of a small search whose scorer lies in `folder`."""
    write_search(folder, pico)
    data = search_data(pico, budget={"candidates": 4}, proof={"finalists": 1}, **changes)
    pools = {"pools": {"search": 40, "select": 20, "report": 20}, "subset": {"size": 20}}
    return {**data, **pools, "space": "global_task_arithmetic"}


def test_frames_have_times_and_gene_names(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal nothing is printed; with one, or in a notebook, the view is there by default."""
    before = time.time()
    data = small(pico, tmp_path)
    monkeypatch.chdir(tmp_path)
    run = evomerge.search(data, "run")
    assert capsys.readouterr().err == "", "a script's output is its own"
    frame = run.frame()
    moments = [moment.timestamp() for moment in frame["finished"]]
    assert moments == sorted(moments) and before - 1 < moments[0] <= moments[-1] < time.time() + 1
    assert any(column.startswith("weight ") for column in frame.columns), "genes have their names"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    evomerge.search(data, "run")
    assert "reading parents and preparing tasks" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evomerge.search(data, "run", observer=SilentObserver())
    assert capsys.readouterr().err == ""


class Interrupting(SilentObserver):
    """Presses Ctrl-C, once, when the search has begun."""

    pressed = False

    def update(self, progress: Progress) -> None:
        """Press it when two candidates are scored."""
        if progress.phase == "searching" and progress.done >= 2 and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_search_says_so(pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small(pico, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evomerge.api.search.SilentObserver", Interrupting)
    with pytest.warns(RuntimeWarning, match=r"interrupted while searching; everything so far is in run, and the same"):
        run = evomerge.search({**data, "budget": {"candidates": 50}}, "run")
    assert isinstance(run, Run) and run.state == "searching"
