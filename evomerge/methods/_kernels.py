"""Fused loops over memory, compiled by numba on first use; imported only where they pay (see `_fused`)."""

from evomerge.methods._kernels_combine import combine
from evomerge.methods._kernels_differences import differences
from evomerge.methods._kernels_memory import TILE
from evomerge.methods._kernels_sparse import MODELS, SPAN, sparse
from evomerge.methods._kernels_statistics import GROUP, at_least, collect, gram, masked_sums, nth_equal, sample
from evomerge.methods._kernels_table import table

__all__ = [
    "GROUP",
    "MODELS",
    "SPAN",
    "TILE",
    "at_least",
    "collect",
    "combine",
    "differences",
    "gram",
    "masked_sums",
    "nth_equal",
    "sample",
    "sparse",
    "table",
]
