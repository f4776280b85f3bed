"""How long jobs take, and how much of a budget of hours the proof needs."""

from collections import defaultdict
from statistics import median

from evomerge.run.config import Setup

MIN_WARM_JOBS = 3  # before an estimate is used: the first job of a worker loads libraries and compiles kernels
MAX_COLD_SHARE = 0.25  # of the hours that may be reserved before that
MIN_CANDIDATES = 4  # that are requested whatever the reserve says, while the hours themselves last
RESERVE_FACTOR = 1.2  # the proof is given this much more time than it is expected to take
KEPT_JOBS = 64  # latest jobs of each size that the medians are taken of


class JobPace:
    """Seconds of jobs by their number of items: medians, so that neither a cold start nor a pause counts."""

    def __init__(self) -> None:
        self._seconds: dict[int, list[float]] = defaultdict(list)
        self._cold: dict[str, float] = {}  # worker -> seconds an item of its first job
        self.warm_jobs = 0

    def add(self, worker: str, items: int, seconds: float) -> None:
        """Note a scored job. One that took no time repeats another and says nothing.

        Args:
            worker: name of the process that did it.
            items: of all objectives.
            seconds: of building and scoring.
        """
        if not items or seconds <= 0:
            return
        if worker not in self._cold:
            self._cold[worker] = seconds / items
            return
        self.warm_jobs += 1
        self._seconds[items] = [*self._seconds[items][1 - KEPT_JOBS :], seconds]

    def job_seconds(self, items: int) -> float | None:
        """Return the seconds that a job of so many items is expected to take, or None if nothing is known.

        A job costs what building takes, whatever its items, and so much an item: a line through the medians of the
        smallest and the largest jobs. With jobs of one size only, it is in proportion to the items.
        """
        if not self._seconds:
            return min(self._cold.values()) * items if self._cold else None
        low, high = min(self._seconds), max(self._seconds)
        at_low, at_high = median(self._seconds[low]), median(self._seconds[high])
        if low == high or at_high <= at_low:
            return at_high * max(1.0, items / high)
        per_item = (at_high - at_low) / (high - low)
        return max(at_low + per_item * (items - low), per_item * items)


def proof_seconds(setup: Setup, pace: JobPace, workers: int) -> float | None:
    """Return the seconds that the proof is expected to take, or None if nothing is known.

    Args:
        setup: says who is scored on how many items.
        pace: of the jobs so far.
        workers: that are up; none counts as one.
    """
    total = 0.0
    pools = setup.entry.pools
    for jobs, items in zip(setup.proof_jobs, (pools.select, pools.report), strict=True):
        seconds = pace.job_seconds(items * len(setup.objectives))
        if seconds is None:
            return None
        total += -(-jobs // max(1, workers)) * seconds
    return total


def control_end(setup: Setup, pace: JobPace, *, workers: int, asked: int) -> float | None:
    """Return the seconds of the run at which the control must end for the proof to fit; as `search_end` does."""
    end = search_end(setup, pace, workers=workers, asked=asked)
    return end if end is None or setup.entry.control is None else 2 * end


def search_end(setup: Setup, pace: JobPace, *, workers: int, asked: int) -> float | None:
    """Return the seconds of the run at which the search must end for what follows to fit, or None without hours.

    That is the proof, and before it the control, which is given as long as the search.

    Better known as time goes on. Until a few candidates are requested, only the hours themselves count: a search that
    ended without a candidate would have nothing to prove.

    Args:
        setup: holds the budget.
        pace: of the jobs so far.
        workers: that are up.
        asked: searched candidates so far.
    """
    if setup.entry.budget.hours is None:
        return None
    searches = 1 if setup.entry.control is None else 2
    whole = setup.entry.budget.hours * 3600
    expected = proof_seconds(setup, pace, workers)
    if expected is None or asked < MIN_CANDIDATES:
        return whole / searches
    reserve = RESERVE_FACTOR * expected
    if pace.warm_jobs < MIN_WARM_JOBS:
        reserve = min(reserve, MAX_COLD_SHARE * whole)
    return max(0.0, whole - reserve) / searches
