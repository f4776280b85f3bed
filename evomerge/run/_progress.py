"""What a run tells whoever watches: plain facts, many times a minute; how they look is not this room's business."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Phase = Literal["preparing", "searching", "selecting", "reporting", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment.

    done, planned: candidates of the search (planned None = bounded by time or items only), or jobs of the proof.
    best: (candidate, fitness adjusted for item difficulty), or None. failures: kind -> count.
    seconds, seconds_left: of this run, earlier sessions included; None = not known yet.
    """

    phase: Phase
    done: int
    planned: int | None
    running: int
    workers: int
    best: tuple[int, float] | None = None
    front: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None
    last: str = ""


class Observer(Protocol):
    """Is told of progress; must be quick and must not raise."""

    def update(self, progress: Progress) -> None:
        """Take note of the state of the run."""
        ...

    def say(self, line: str) -> None:
        """Take note of one event, as a sentence."""
        ...


class Silent:
    """Watches nothing."""

    def update(self, progress: Progress) -> None:
        """Ignore it."""

    def say(self, line: str) -> None:
        """Ignore it."""
