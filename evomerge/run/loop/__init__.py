"""The search loop: ask, score, record, tell; and the same again from a ledger.

It knows optimizers, the ledger and the executor protocol. It must not import Ray (workers come as an `Executor`), the
proof or the driver.
"""

from evomerge.run.loop._loop import WAIT_SECONDS, WORKERS_PER_PREFETCH, SearchLoop
from evomerge.run.loop._state import MAX_LATEST, MAX_LEADING, SearchState
from evomerge.run.loop._subsets import WHOLE_POOL, Subsets
from evomerge.run.loop._utilization import UtilizationMeter, utilization_share

__all__ = [
    "MAX_LATEST",
    "MAX_LEADING",
    "WAIT_SECONDS",
    "WHOLE_POOL",
    "WORKERS_PER_PREFETCH",
    "SearchLoop",
    "SearchState",
    "Subsets",
    "UtilizationMeter",
    "utilization_share",
]
