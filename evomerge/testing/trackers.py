"""The contract of a tracker as tests. Subclass, say how to create one, and pytest runs them:

class TestMine(TrackerContract):
    def create(self) -> Tracker:
        return MyTracker(project="test")
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path

from evomerge.records import Candidate, Failure, Objective, Point, Pool, Score
from evomerge.run.trackers import FrontMember, RunEnded, RunStarted, Tracker, Trackers, is_tracker

_OBJECTIVES = (
    Objective(name="sums", task="sums", metric="acc"),
    Objective(name="loss", task="text", metric="bits", direction="min", link="exp", floor=3.5),
)
_RECIPE = {"merge_method": "linear", "models": [{"model": "one", "parameters": {"weight": 0.5}}]}


class TrackerContract(ABC):
    """What evomerge relies on in every tracker."""

    @abstractmethod
    def create(self) -> Tracker:
        """Return a fresh tracker that needs no network."""

    # -- what the tests share

    def run(self, folder: Path, *, resumed: bool = False) -> RunStarted:
        """Return how a session begins."""
        return RunStarted(
            folder=folder,
            resumed=resumed,
            objectives=_OBJECTIVES,
            optimizer="cma",
            seed=0,
            search={"parents": {"models": ["one", "two"]}, "budget": {"candidates": 3}},
            candidates_finished=2 if resumed else 0,
        )

    def candidate(self, number: int, *pools: Pool, failure: Failure | None = None) -> Candidate:
        """Return a candidate with scores on some pools, or with a failure."""
        scores = {
            pool: {objective.name: Score(value=-0.5, stderr=0.1, n=20) for objective in _OBJECTIVES} for pool in pools
        }
        return Candidate(
            id=number,
            name=f"candidate {number}",
            kind="candidate",
            generation=0,
            subset=0,
            point=Point(reals=(0.25, 0.75)),
            recipe=_RECIPE,
            state=failure.kind if failure else "scored",
            failure=failure,
            scores=scores,
            seconds=1.5,
            worker="worker 0",
        )

    def front(self, *numbers: int) -> tuple[FrontMember, ...]:
        """Return a front of some candidates."""
        return tuple(FrontMember(candidate=n, fitness=0.5, values={"sums": 0.5, "loss": -1.25}) for n in numbers)

    # -- the tests

    def test_is_a_tracker(self) -> None:
        assert is_tracker(self.create())

    def test_follows_a_run_to_its_verdict(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        for number in range(3):
            tracker.candidate_scored(self.candidate(number, "search"), "search")
        tracker.front_changed(self.front(2, 0), "search")
        for number in (0, 2):
            tracker.candidate_scored(self.candidate(number, "search", "select"), "select")
        tracker.front_changed(self.front(2), "select")
        tracker.candidate_scored(self.candidate(2, "search", "select", "report"), "report")
        tracker.ended(RunEnded(state="done", seconds=9.5, pick=2, verdict={"claimed": False, "text": "no gain"}))

    def test_takes_failures_and_results_in_any_order(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        tracker.front_changed(self.front(), "search")
        for number, kind in ((7, "lost"), (3, "degenerate"), (5, "failed"), (1, "infeasible")):
            failure = Failure(kind=kind, reason="no\nreason", detail="line one\nline two")  # type: ignore[arg-type]
            tracker.candidate_scored(self.candidate(number, failure=failure), "search")
        tracker.candidate_scored(self.candidate(2, "search"), "search")
        tracker.ended(RunEnded(state="failed", seconds=0.0, error="every worker died"))

    def test_a_session_may_end_at_once(self, tmp_path: Path) -> None:
        tracker = self.create()
        tracker.started(self.run(tmp_path))
        tracker.ended(RunEnded(state="stopped", seconds=0.0))

    def test_a_resumed_run_starts_again(self, tmp_path: Path) -> None:
        for resumed in (False, True, True):  # a killed driver never says that it ended
            tracker = self.create()
            tracker.started(self.run(tmp_path, resumed=resumed))
            tracker.candidate_scored(self.candidate(4, "search"), "search")

    def test_two_runs_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        first, second = self.create(), self.create()
        for name, tracker in (("first", first), ("second", second)):
            (tmp_path / name).mkdir()
            tracker.started(self.run(tmp_path / name))
        first.ended(RunEnded(state="stopped", seconds=1.0))
        second.candidate_scored(self.candidate(0, "search"), "search")
        second.ended(RunEnded(state="done", seconds=1.0, pick=0))

    def test_does_not_change_what_it_is_given(self, tmp_path: Path) -> None:
        tracker = self.create()
        run, candidate = self.run(tmp_path), self.candidate(0, "search")
        front, ended = self.front(0), RunEnded(state="done", seconds=1.0, pick=0, verdict={"claimed": True})
        before = copy.deepcopy([asdict(run), asdict(candidate), [asdict(member) for member in front], asdict(ended)])
        tracker.started(run)
        tracker.candidate_scored(candidate, "search")
        tracker.front_changed(front, "search")
        tracker.ended(ended)
        assert [asdict(run), asdict(candidate), [asdict(member) for member in front], asdict(ended)] == before

    def test_works_from_a_thread_of_its_own(self, tmp_path: Path) -> None:
        said: list[str] = []
        trackers = Trackers([self.create()], say=said.append)
        trackers.started(self.run(tmp_path))
        trackers.candidate_scored(self.candidate(0, "search"), "search")
        trackers.ended(RunEnded(state="done", seconds=1.0, pick=0))
        assert said == []
