"""The random control: as many items as the search, one rival of the pick, and resumed where it was."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import EvomergeError, InvalidFile
from evomerge.records import Candidate, Failure
from evomerge.results import front_document
from evomerge.run import Executor, Job, Outcome, Run, Setup, search
from evomerge.testing.landscape_search import LandscapeExecutor, landscape_file
from evomerge.testing.landscapes import Landscape

DIMENSIONS = 12
POOLS = {"search": 40, "select": 24, "report": 32}
CANDIDATES = 40


class Interrupted(Exception):
    """Stands for a killed driver."""


class Scores(LandscapeExecutor):
    """Scores a landscape; may end the process, or treat candidates of the control in its own way."""

    def __init__(
        self,
        setup: Setup,
        *,
        last_job: int | None = None,
        right: bool = False,
        broken: Sequence[str] = (),
        controls: Sequence[int] = (),
    ):
        landscape = Landscape(DIMENSIONS, seed=1, search_items=64, held_out_items=32)
        super().__init__(landscape, str(setup.refs[0]))
        self._first_control = len(setup.references) + CANDIDATES
        self._controls = set(controls)
        self._last_job, self._right, self._broken, self._done = last_job, right, broken, 0

    def submit(self, job: Job) -> None:
        if job.pool == "search" and job.candidate >= self._first_control:
            self._controls.add(job.candidate)
        super().submit(job)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        self._done += 1
        if self._last_job is not None and self._done > self._last_job:
            raise Interrupted
        return [(job, self._changed(job, outcome)) for job, outcome in super().wait(timeout)]

    def _changed(self, job: Job, outcome: Outcome) -> Outcome:
        if job.candidate in self._controls and job.pool in self._broken:
            return replace(outcome, items=None, failure=Failure(kind="failed", reason="no luck"))
        if job.candidate in self._controls and self._right and outcome.items is not None:
            items = {name: replace(found, values=(1.0,) * len(found.ids)) for name, found in outcome.items.items()}
            return replace(outcome, items=items)
        return outcome


def run_with(folder: Path, out: str, *, control: str | None = "random", **executor: Any) -> Run:
    """Run or resume a search on a small landscape."""
    data, space = landscape_file(
        DIMENSIONS, folder, seed=2, pools=POOLS, budget={"candidates": CANDIDATES}, proof={"finalists": 3}
    )

    def scores(setup: Setup) -> Executor:
        return Scores(setup, **executor)

    return search(data, folder / out, space=space, control=control, executor=scores)


def controls_of(run: Run) -> list[Candidate]:
    return [candidate for candidate in run.candidates() if candidate.from_control]


def content(run: Run) -> list[Mapping[str, Any]]:
    """What a run holds, without seconds."""
    return [
        {"id": c.id, "name": c.name, "recipe": c.recipe, "state": c.state, "scores": c.scores} for c in run.candidates()
    ]


def test_it_spends_as_many_items_as_the_search_and_its_best_is_a_rival(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run")
    searched = sum(c.scores["search"]["landscape"].n for c in run.candidates() if c.kind == "candidate")
    controls = controls_of(run)
    job = controls[0].scores["search"]["landscape"].n
    assert searched <= sum(c.scores["search"]["landscape"].n for c in controls) < searched + job
    selected = [control for control in controls if "select" in control.scores]
    assert len(selected) == 3
    best = max(selected, key=lambda control: control.scores["select"]["landscape"].value)
    assert run.verdict is not None
    rival = [row for row in run.verdict["comparisons"] if row["kind"] == "control"]
    assert [row["id"] for row in rival] == [best.id]
    assert "report" in best.scores
    assert run.pick is not None
    assert not run.pick.from_control


def test_only_its_finalists_are_listed(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run")
    listed = [row for row in front_document(run)["candidates"] if row["kind"] == "control"]
    assert len(listed) == 3
    assert all(row["select"] for row in listed)
    everything = [row for row in front_document(run, everything=True)["candidates"] if row["kind"] == "control"]
    assert len(everything) == len(controls_of(run))


def test_what_it_finds_is_the_pick_if_nothing_else_is_as_good_and_nothing_is_claimed(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run", right=True)
    assert run.pick is not None
    assert run.verdict is not None
    assert run.pick.from_control
    assert not run.verdict["claimed"]
    assert run.verdict["text"].startswith(f"Keep {run.pick.name} (best of a random search with as many items, ")


@pytest.mark.parametrize("last_job", [49, 55, 75])
def test_an_interrupted_one_goes_on_where_it_was(tmp_path: Path, last_job: int) -> None:
    whole = content(run_with(tmp_path, "whole"))
    with pytest.raises(Interrupted):
        run_with(tmp_path, "parts", last_job=last_job)
    assert content(run_with(tmp_path, "parts")) == whole


def test_one_that_cannot_be_scored_at_all_is_said_and_ends(tmp_path: Path) -> None:
    run = run_with(tmp_path, "run", broken=["search"])
    assert run.verdict is not None
    assert all(row["kind"] != "control" for row in run.verdict["comparisons"])
    assert any("random control" in note for note in run.notes)


def test_its_next_best_takes_the_place_of_one_that_fails_on_report(tmp_path: Path) -> None:
    with pytest.raises(EvomergeError, match=r"random \d+ could not be scored on the report pool"):
        run_with(tmp_path, "run", broken=["report"])
    first = next(rival["id"] for rival in Run(tmp_path / "run").fact("comparators") if rival["kind"] == "control")
    run = run_with(tmp_path, "run", broken=["report"], controls=[first])
    assert run.verdict is not None
    second = [row["id"] for row in run.verdict["comparisons"] if row["kind"] == "control"]
    assert len(second) == 1
    assert second != [first]
    assert any(f"random {first} was the best of a random search" in note for note in run.notes)


def test_a_run_is_not_resumed_without_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_with(tmp_path, "run", last_job=60)
    with pytest.raises(InvalidFile, match="control"):
        run_with(tmp_path, "run", control=None)
