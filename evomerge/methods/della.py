"""DELLA's masks: random, with a keep probability that grows with an element's rank among its row (Deep 2024)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from evomerge.methods.core import _random_mask as _random

ONE = 1 << _random.BITS  # probability 1 in the integers that are compared with random bits


class MagnitudeRanks(NamedTuple):
    """Elements are ranked in groups of `length`, `run` positions apart, and keep probabilities span +- epsilon."""

    length: int
    run: int
    epsilon: float

    @property
    def unit(self) -> int:
        """Number of consecutive elements that hold whole groups."""
        return self.length * self.run


def ranking(shape: Sequence[int], epsilon: float) -> MagnitudeRanks:
    """Return the groups of a shape: along the second axis, as mergekit has it; a vector is one group."""
    if len(shape) < 2:
        return MagnitudeRanks(math.prod(shape), 1, epsilon)
    return MagnitudeRanks(shape[1], math.prod(shape[2:]), epsilon)


def bonus(size: torch.Tensor, ranking: MagnitudeRanks) -> torch.Tensor:
    """Return (n,) int64: what rank adds to the keep probability, -epsilon (smallest) to +epsilon, in units 1/ONE.

    Args:
        size: (n,) |delta| of whole groups. Equal values rank by position; the only element of a group gets 0.
    """
    span = ranking.epsilon * ONE
    if ranking.length == 1:
        return torch.zeros(size.numel(), dtype=torch.int64, device=size.device)
    steps = torch.arange(ranking.length, dtype=torch.float64, device=size.device)
    by_rank = (steps * (2 * span / (ranking.length - 1)) - span).round().long()
    groups = size.view(-1, ranking.length, ranking.run)
    order = groups.argsort(dim=1, stable=True)
    values = by_rank[None, :, None].expand_as(order)
    return torch.empty_like(order).scatter_(1, order, values).view(-1)
