"""The search loop: ask, score, record, tell; and the same again from a ledger.

It knows optimizers, the ledger and the executor protocol. It must not import Ray (workers come as an `Executor`), the
proof or the driver.
"""

from evomerge.run.loop._control_search import ControlSearch
from evomerge.run.loop._gene_slopes import GeneSlopes, gene_slopes
from evomerge.run.loop._loop import WAIT_SECONDS, WORKERS_PER_PREFETCH, SearchLoop
from evomerge.run.loop._run_optimizer import as_begun
from evomerge.run.loop._soft_scores import slopes_of, soft_value
from evomerge.run.loop._state import GRADIENT_COST, MAX_LATEST, MAX_LEADING, SearchState, finished_candidate
from evomerge.run.loop._subset_sizes import SubsetSizes, agreement_of
from evomerge.run.loop._subsets import REFERENCE_ITEMS, WHOLE_POOL, Subsets
from evomerge.run.loop._utilization import COST, CostMeter, UtilizationMeter, utilization_share

__all__ = [
    "COST",
    "GRADIENT_COST",
    "MAX_LATEST",
    "MAX_LEADING",
    "REFERENCE_ITEMS",
    "WAIT_SECONDS",
    "WHOLE_POOL",
    "WORKERS_PER_PREFETCH",
    "ControlSearch",
    "CostMeter",
    "GeneSlopes",
    "SearchLoop",
    "SearchState",
    "SubsetSizes",
    "Subsets",
    "UtilizationMeter",
    "agreement_of",
    "as_begun",
    "finished_candidate",
    "gene_slopes",
    "slopes_of",
    "soft_value",
    "utilization_share",
]
