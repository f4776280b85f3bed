"""Kernels for GPUs in Triton, and reductions there. Importing this package does not load Triton."""

from evomerge.methods.kernels.gpu._dispatch import PROGRAM_ELEMENTS, combine, loaded, sparse
from evomerge.methods.kernels.gpu._statistics import density_table

__all__ = ["PROGRAM_ELEMENTS", "combine", "density_table", "loaded", "sparse"]
