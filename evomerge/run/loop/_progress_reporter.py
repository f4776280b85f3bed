"""What the search loop reports: the best candidate, what failed, how long it will take."""

from collections.abc import Callable
from typing import NamedTuple

from evomerge.run._pace import proof_seconds
from evomerge.run._progress import Observer, Progress
from evomerge.run._ranking import Ranking, fitness_interval, front_members
from evomerge.run.config._setup import Setup
from evomerge.run.loop._state import SearchState
from evomerge.run.trackers import Trackers

REFRESH_SHARE = 0.005  # of the time that may go into finding the front and the best: all workers may be kept waiting
FIRST_SHARE = 0.1  # the same, until there is one
MIN_DONE_FOR_ESTIMATE = 5  # finished candidates before the time that is left is estimated


class Leaders(NamedTuple):
    """The leading candidates at one moment.

    Attributes:
        best: (candidate, adjusted fitness) of the best searched one, or None.
        interval: 95% interval of that fitness, or None.
        front: size of the front among the leading.
        until: the clock's seconds at which they are looked up again.
    """

    best: tuple[int, float] | None
    interval: tuple[float, float] | None
    front: int
    until: float


class ProgressReporter:
    """Reports to an observer; the leaders are looked up now and then, because fitting item effects costs time.

    Attributes:
        already: candidates that earlier sessions finished.
        last: the last event, as a sentence.
    """

    def __init__(self, setup: Setup, observer: Observer, clock: Callable[[], float], trackers: Trackers):
        self._setup, self._observer, self._clock = setup, observer, clock
        self._trackers, self._front = trackers, frozenset[int]()
        self._started = clock()
        self._leaders = Leaders(None, None, 0, float("-inf"))
        self.already = 0
        self.last = ""

    def update(self, state: SearchState, *, running: int, workers: int, seconds: float, end: float | None) -> None:
        """Report where the search stands.

        Args:
            state: what the search has so far.
            running: candidates being scored.
            workers: workers that are up.
            seconds: of the run so far, earlier sessions included.
            end: seconds of the run at which the search must stop, or None.
        """
        now = self._clock()
        if now >= self._leaders.until:
            self._leaders = self._find_leaders(state, now)
        budget = self._setup.entry.budget.candidates
        left = self._left(state.done, budget, None if end is None else max(0.0, end - seconds))
        proof = None if left is None else proof_seconds(self._setup, state.pace, workers)
        self._observer.update(
            Progress(
                phase="searching",
                done=state.done,
                planned=budget,
                running=running,
                workers=workers,
                best=self._leaders.best,
                best_interval=self._leaders.interval,
                references=state.reference_counts,
                front=self._leaders.front,
                failures=state.failures,
                seconds=seconds,
                seconds_left=left,
                run_seconds_left=None if left is None or proof is None else left + proof,
                last=self.last,
            )
        )

    def _find_leaders(self, state: SearchState, now: float) -> Leaders:
        ranking = Ranking(self._setup.objectives, state.leading, state.floors)
        ranked = ranking.ranked([candidate for candidate in ranking.values if candidate in state.numbers])
        best = (ranked[0], ranking.fitness(ranked[0])) if ranked else None
        front = ranking.front(list(ranking.values))
        if front and self._front != frozenset(front):
            self._front = frozenset(front)
            self._trackers.front_changed(front_members(ranking, front), "search")
        share = REFRESH_SHARE if best else FIRST_SHARE
        interval = fitness_interval(self._setup.objectives, state.table[best[0]], best[1]) if best else None
        return Leaders(best, interval, len(front), now + (self._clock() - now) / share)

    def _left(self, done: int, budget: int | None, until_end: float | None) -> float | None:
        """Return the expected seconds until the search ends (the proof comes after)."""
        ends = [] if until_end is None else [until_end]
        if budget is not None and done >= MIN_DONE_FOR_ESTIMATE:
            fresh = max(1, done - self.already)
            ends.append((self._clock() - self._started) / fresh * (budget - done))
        return min(ends, default=None)
