"""Random numbers with an address: u(seed, parent, tensor, index), the same for any block size, order or device.

DARE keeps an element where its number is below the density (Yu 2024); DELLA adds to that by the element's rank
(Deep 2024).
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

_MASK = 0xFFFFFFFF
BITS = 24  # a float32 holds every multiple of 2^-24 in [0, 1)
ONE = 1 << BITS  # probability 1 in the integers that are compared with random bits


def mask_keys(seed: int, parent: str, tensor: str) -> tuple[int, int]:
    """Return the two 32-bit keys of one (seed, parent, tensor) address."""
    digest = hashlib.blake2b(f"{seed}\n{parent}\n{tensor}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scramble 32-bit integers held in int64, in place (the "lowbias32" constants found by Wellons 2018)."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x &= _MASK
    x ^= x >> 15
    x *= 0x846CA68B
    x &= _MASK
    x ^= x >> 16
    return x


def uniform_bits(address: tuple[int, int], start: int, length: int, device: torch.device) -> torch.Tensor:
    """Return the random integers of consecutive elements.

    Args:
        address: keys (see `mask_keys`).
        start: flat position of the first element.
        length: number of elements.
        device: where the result lies.

    Returns:
        (length,) int64, uniform on [0, 2^24).
    """
    index = torch.arange(start, start + length, dtype=torch.int64, device=device)
    high = index >> 32
    x = _mix((index & _MASK) ^ address[0])
    x += high * 0x9E3779B9 + address[1]
    x &= _MASK
    return _mix(x) >> (32 - BITS)


def keep_bound(density: float) -> int:
    """Return the number that `uniform_bits` must stay below to keep a fraction `density`; masks nest in density."""
    return round(density * ONE)


class MagnitudeRanks(NamedTuple):
    """How elements are ranked by magnitude for DELLA.

    Attributes:
        length: elements that are ranked together.
        run: how far these lie apart.
        epsilon: keep probabilities run from density - epsilon to density + epsilon.
    """

    length: int
    run: int
    epsilon: float

    @property
    def unit(self) -> int:
        """Number of consecutive elements that hold whole groups."""
        return self.length * self.run


def ranks_of(shape: Sequence[int], epsilon: float) -> MagnitudeRanks:
    """Return the groups of a shape: along the second axis, as mergekit has it; a vector is one group."""
    if len(shape) < 2:
        return MagnitudeRanks(math.prod(shape), 1, epsilon)
    return MagnitudeRanks(shape[1], math.prod(shape[2:]), epsilon)


def rank_bonus(size: torch.Tensor, ranks: MagnitudeRanks) -> torch.Tensor:
    """Return what rank adds to the keep probability.

    Args:
        size: (n,) |delta| of whole groups. Equal values rank by position; the only element of a group gets 0.
        ranks: the groups.

    Returns:
        (n,) int64 from -epsilon (the smallest) to +epsilon, in units of 1 / ONE.
    """
    span = ranks.epsilon * ONE
    if ranks.length == 1:
        return torch.zeros(size.numel(), dtype=torch.int64, device=size.device)
    steps = torch.arange(ranks.length, dtype=torch.float64, device=size.device)
    by_rank = (steps * (2 * span / (ranks.length - 1)) - span).round().long()
    groups = size.view(-1, ranks.length, ranks.run)
    order = groups.argsort(dim=1, stable=True)
    values = by_rank[None, :, None].expand_as(order)
    return torch.empty_like(order).scatter_(1, order, values).view(-1)
