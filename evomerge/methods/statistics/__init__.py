"""Reductions over whole tensors that do not depend on genes: Gram matrices, thresholds, tables of densities.

Must not import method files, nor what `core` builds on statistics. Compiled kernels give the same bits as the torch
code here.
"""

from evomerge.methods.statistics._gram import Axis, fibers
from evomerge.methods.statistics._selection import (
    KEEP_NONE,
    Cut,
    SelectionTable,
    chunks,
    kept_l1,
    select,
    select_all,
    tie_end,
)
from evomerge.methods.statistics._tables import (
    GRID,
    MAX_CACHED_PER_KIND,
    Statistics,
    StatisticsLocked,
    StatisticsStore,
    load_kernels,
)

__all__ = [
    "GRID",
    "KEEP_NONE",
    "MAX_CACHED_PER_KIND",
    "Axis",
    "Cut",
    "SelectionTable",
    "Statistics",
    "StatisticsLocked",
    "StatisticsStore",
    "chunks",
    "fibers",
    "kept_l1",
    "load_kernels",
    "select",
    "select_all",
    "tie_end",
]
