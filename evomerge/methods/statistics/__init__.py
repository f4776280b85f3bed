"""Reductions over whole tensors that do not depend on genes: Gram matrices, thresholds, density tables."""
