"""How busy a search keeps its workers."""

from collections.abc import Mapping
from typing import Any


class UtilizationMeter:
    """Worker seconds that went into candidates, and those there were, from a session's first candidate to its last.

    Workers count while they are up; a session's time is that of its own clock, so nights between sessions do not.
    """

    def __init__(self, before: Mapping[str, float]):
        """before: what `plain` said in earlier sessions."""
        self._spent, self._there = before.get("spent", 0.0), before.get("there", 0.0)
        self._last: float | None = None

    def begin(self, now: float) -> None:
        """Start counting with the first candidate; later calls change nothing."""
        self._last = now if self._last is None else self._last

    def tick(self, now: float, workers: int) -> None:
        """Count the time since the last tick."""
        if self._last is not None:
            self._there += workers * (now - self._last)
            self._last = now

    def spent(self, seconds: float) -> None:
        """Count a candidate's time."""
        self._spent += seconds

    def plain(self) -> dict[str, float]:
        """Return both sums as plain data."""
        return {"spent": self._spent, "there": self._there}


def share(plain: Mapping[str, Any] | None) -> float | None:
    """Return the share of the workers' time that went into candidates, or None before there was any."""
    return None if not plain or not plain["there"] else float(plain["spent"] / plain["there"])
