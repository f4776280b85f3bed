"""What the search loop shows: who leads, what failed, how long it will take."""

from collections.abc import Callable
from typing import NamedTuple

from evomerge.run._progress import Observer, Progress
from evomerge.run._ranking import Ranking, front_members
from evomerge.run.config._setup import Setup
from evomerge.run.loop._state import SearchState
from evomerge.run.trackers import Trackers

REFRESH_SHARE = 0.005  # of the time that may go into finding the front and the best: all workers may be kept waiting
SEEK_SHARE = 0.1  # the same, until there is one


class Leaders(NamedTuple):
    """The best searched candidate with its fitness, the front's size among the leading, when to look again."""

    best: tuple[int, float] | None
    front: int
    until: float


class ProgressReporter:
    """Reports to an observer; who leads is looked up now and then, because fitting item effects costs time."""

    def __init__(self, setup: Setup, observer: Observer, clock: Callable[[], float], trackers: Trackers):
        self._setup, self._observer, self._clock = setup, observer, clock
        self._trackers, self._front = trackers, frozenset[int]()
        self._started = clock()
        self._leaders = Leaders(None, 0, float("-inf"))
        self.already = 0  # candidates that earlier sessions finished
        self.last = ""

    def show(self, tally: SearchState, *, running: int, workers: int, seconds: float, end: float | None) -> None:
        """Report how the search stands. end: seconds of the run at which the search must stop, or None."""
        now = self._clock()
        if now >= self._leaders.until:
            self._leaders = self._find_leaders(tally, now)
        budget = self._setup.entry.budget.candidates
        self._observer.update(
            Progress(
                phase="searching",
                done=tally.done,
                planned=budget,
                running=running,
                workers=workers,
                best=self._leaders.best,
                front=self._leaders.front,
                failures=tally.failures,
                seconds=seconds,
                seconds_left=self._left(tally.done, budget, None if end is None else max(0.0, end - seconds)),
                last=self.last,
            )
        )

    def _find_leaders(self, tally: SearchState, now: float) -> Leaders:
        standings = Ranking(self._setup.objectives, tally.leading, tally.floors)
        ranked = standings.ranked([each for each in standings.values if each in tally.numbers])
        best = (ranked[0], standings.fitness(ranked[0])) if ranked else None
        front = standings.front(list(standings.values))
        if front and self._front != frozenset(front):
            self._front = frozenset(front)
            self._trackers.front_changed(front_members(standings, front), "search")
        share = REFRESH_SHARE if best else SEEK_SHARE
        return Leaders(best, len(front), now + (self._clock() - now) / share)

    def _left(self, done: int, budget: int | None, until_end: float | None) -> float | None:
        """Return the expected seconds until the search ends (the proof comes after)."""
        ends = [] if until_end is None else [until_end]
        if budget is not None and done >= 5:
            fresh = max(1, done - self.already)
            ends.append((self._clock() - self._started) / fresh * (budget - done))
        return min(ends, default=None)
