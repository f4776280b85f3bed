"""Fused loops over memory, compiled by numba on first use; imported only where they pay (see `_fused`)."""

from evomerge.methods.kernels.cpu._combine import combine
from evomerge.methods.kernels.cpu._density_table import table
from evomerge.methods.kernels.cpu._differences import differences
from evomerge.methods.kernels.cpu._memory import TILE
from evomerge.methods.kernels.cpu._sparse import MODELS, SPAN, sparse
from evomerge.methods.kernels.cpu._statistics import (
    GROUP,
    at_least,
    collect,
    gram,
    masked_sums,
    nth_equal,
    sample,
)

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
