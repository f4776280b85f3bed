"""Reductions over whole tensors that do not depend on genes: Gram matrices, thresholds, tables of densities.

Must not import method files, nor what `core` builds on statistics. Compiled kernels give the same bits as the torch
code here.
"""

from evomerge.methods.statistics._gram import Axis, fibers
from evomerge.methods.statistics._selection import Cut, chunks, select
from evomerge.methods.statistics._tables import (
    GRID,
    Statistics,
    StatisticsLocked,
    StatisticsStore,
    load_kernels,
)

__all__ = [
    "GRID",
    "Axis",
    "Cut",
    "Statistics",
    "StatisticsLocked",
    "StatisticsStore",
    "chunks",
    "fibers",
    "load_kernels",
    "select",
]
