"""How busy a search keeps its workers, and what a run has spent."""

from collections.abc import Mapping
from typing import Any, Literal

from evomerge.records import Pool
from evomerge.run.workers import Outcome

COST = "cost"  # the ledger's fact: what `CostMeter.plain` returns


class CostMeter:
    """Sums up what workers have done for each pool, and apart from that for a random control."""

    def __init__(self, before: Mapping[str, Mapping[str, Any]]):
        """Go on from earlier sessions.

        Args:
            before: what `plain` returned at their end; empty for a new run.
        """
        self._sums = {pool: dict(spent) for pool, spent in before.items()}

    def add(self, pool: Pool | Literal["control"], outcome: Outcome) -> None:
        """Count a job; one that repeats another cost nothing."""
        if not outcome.attempts:
            return
        spent = self._sums.setdefault(pool, {"candidates": 0, "items": 0, "tokens": 0, "seconds": 0.0})
        spent["candidates"] += 1
        spent["items"] += sum(len(found.ids) for found in (outcome.items or {}).values())
        spent["lost_items"] = spent.get("lost_items", 0) + outcome.lost_items
        spent["tokens"] += outcome.tokens
        spent["seconds"] += outcome.seconds

    def lost_items(self, pool: Pool) -> int:
        """Return how many items were given to a scorer without a score."""
        return int(self._sums.get(pool, {}).get("lost_items", 0))

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return, by pool or for the "control", jobs ("candidates"), items, tokens and seconds of workers.

        Beside the "items" that were scored, "lost_items" were given to a scorer in attempts that failed.
        """
        return self._sums


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
