"""Whole merges and statistics in one pass over memory: numba on CPUs, Triton on GPUs; the bits are those of torch.

Must not import method files, nor tables of statistics. numba and Triton are imported when first needed.
"""
