"""How busy a search keeps its workers."""

from collections.abc import Mapping


class UtilizationMeter:
    """Counts worker seconds spent on candidates and worker seconds available, from the first candidate to the last.

    Workers count while they are up. A session's time is that of its own clock, so the time between sessions is not
    counted.
    """

    def __init__(self, before: Mapping[str, float]):
        """Go on from earlier sessions.

        Args:
            before: what `plain` returned at their end; empty for a new run.
        """
        self._spent, self._available = before.get("spent", 0.0), before.get("there", 0.0)
        self._last: float | None = None

    def begin(self, now: float) -> None:
        """Start counting with the first candidate; later calls change nothing."""
        self._last = now if self._last is None else self._last

    def tick(self, now: float, workers: int) -> None:
        """Count the time since the last tick for so many workers."""
        if self._last is not None:
            self._available += workers * (now - self._last)
            self._last = now

    def spent(self, seconds: float) -> None:
        """Count a candidate's time."""
        self._spent += seconds

    def plain(self) -> dict[str, float]:
        """Return both sums as plain data: seconds "spent", and seconds that were "there" (available)."""
        return {"spent": self._spent, "there": self._available}


def utilization_share(plain: Mapping[str, float] | None) -> float | None:
    """Return the share of the workers' time that went into candidates, or None before there was any.

    Args:
        plain: what `UtilizationMeter.plain` returned.
    """
    return None if not plain or not plain["there"] else plain["spent"] / plain["there"]
