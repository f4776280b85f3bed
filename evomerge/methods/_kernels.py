"""Fused loops over memory, compiled by numba on first use; imported only where they pay (see `_fused`)."""

from evomerge.methods._kernels_combine import combine, sparse
from evomerge.methods._kernels_statistics import between, gram, masked_sums, nth_equal, sample, spectrum

__all__ = ["between", "combine", "gram", "masked_sums", "nth_equal", "sample", "sparse", "spectrum"]
