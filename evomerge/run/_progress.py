"""What a run reports while it goes on: plain facts, many times a minute. How they look is the observer's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Phase = Literal["preparing", "searching", "controlling", "selecting", "reporting", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment.

    Attributes:
        phase: what it is doing.
        done: candidates of the search, or jobs of the proof, that are finished.
        planned: how many there will be; None = the budget is one of time or items only.
        running: candidates being scored.
        workers: that are up.
        best: (candidate, fitness adjusted for item difficulty) of the best searched one, or None.
        best_interval: 95% interval of that fitness, or None.
        references: how many references are scored, and how many there are; (0, 0): not known.
        front: size of the Pareto front as far as it is known.
        failures: kind -> number of candidates.
        seconds: of the run, earlier sessions included.
        seconds_left: until the end of the phase; None = not known yet.
        run_seconds_left: until the verdict; None = not known yet.
        last: the latest event, as a sentence.
    """

    phase: Phase
    done: int
    planned: int | None
    running: int
    workers: int
    best: tuple[int, float] | None = None
    best_interval: tuple[float, float] | None = None
    references: tuple[int, int] = (0, 0)
    front: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None
    run_seconds_left: float | None = None
    last: str = ""


class Observer(Protocol):
    """Receives progress, in the driver's own thread: it must be quick and must not raise."""

    def update(self, progress: Progress) -> None:
        """Take note of the state of the run."""
        ...

    def say(self, line: str) -> None:
        """Take note of one event, as a sentence."""
        ...


class SilentObserver:
    """Ignores everything; a base for observers that want one of the two calls."""

    def update(self, progress: Progress) -> None:
        """Ignore it."""

    def say(self, line: str) -> None:
        """Ignore it."""
