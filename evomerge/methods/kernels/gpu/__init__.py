"""Kernels for GPUs in Triton, and reductions there."""
