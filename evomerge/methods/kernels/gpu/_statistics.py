"""Whole-tensor reductions on a GPU: by sorting, and by sums that are exact, so that the order of adding is free.

Selections and their L1 norms have the bits that `_selection` gives on a CPU. The norms of random masks are added up in
another order there: the two agree to about 1e-13.
"""

from collections.abc import Iterable

import torch

from evomerge.methods.statistics._selection import MANTISSA_BITS, chunks, scaled, sums_above, units_of

PIECE_ELEMENTS = 1 << 24  # worked on at a time
SORTING_BYTES = 48  # of memory that `density_table` takes, for each element
EXPONENTS = 256


def serves(values: torch.Tensor, sorting: bool = False) -> bool:
    """Return whether tensors like this are for the functions here, if `sorting` with memory for a sorted copy."""
    if not values.is_cuda or values.dtype == torch.float64:
        return False
    return not sorting or SORTING_BYTES * values.numel() < torch.cuda.mem_get_info(values.device)[0]


def density_table(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Return the selections of the `counts` largest values, ties by position.

    Args:
        values: (n,) float32, >= 0.
        counts: 1 to n each.

    Returns:
        (4, len(counts)) float64 in main memory: threshold, how many equal to it are kept, L1 norm, where the first
        equal one lies that is not kept (n if there is none).
    """
    order = values.view(torch.int32).neg().sort(stable=True)  # from the largest value
    bits, size = order.values, values.numel()
    kept = torch.tensor(counts, device=bits.device)
    chosen = bits[kept - 1]
    following = kept.clamp(max=size - 1)
    tied = (kept < size).logical_and_(bits[following] == chosen)
    ends = torch.where(tied, order.indices[following], size)
    ties = kept - torch.searchsorted(bits, chosen)
    l1 = _norms_of_first(bits, kept, chosen.neg() >> MANTISSA_BITS)
    thresholds = chosen.neg().view(torch.float32)
    return torch.stack([column.double().cpu() for column in (thresholds, ties, l1, ends)])


def _norms_of_first(bits: torch.Tensor, kept: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Return the L1 norms of the first `kept` values, as `_selection` adds them up: by exponent, from the largest.

    Args:
        bits: negated patterns in ascending order.
        kept: (counts,) how many values.
        exponent: (counts,) of the last value of each.
    """
    steps = torch.arange(EXPONENTS, dtype=torch.int32, device=bits.device)
    reached = torch.searchsorted(bits, (steps << MANTISSA_BITS).neg(), right=True)  # values of this exponent or more
    sums = _prefix_sums(bits, torch.cat([reached, kept])).cpu()
    exponent, steps = exponent.cpu(), steps.cpu()
    from_above = torch.cat([sums[:EXPONENTS], sums.new_zeros(1)])
    whole = scaled(from_above[:-1] - from_above[1:], steps)
    part = scaled(sums[EXPONENTS:] - from_above[exponent.long() + 1], exponent)
    above = torch.tensor(sums_above(whole, exponent), dtype=torch.float64)
    return above + part


def _prefix_sums(bits: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return, for each length, the sum of that many first values in whole steps of their exponents, int64."""
    found = torch.zeros_like(lengths)
    before = lengths.new_zeros(())
    for start, end in chunks(bits.numel(), PIECE_ELEMENTS):
        sums = units_of(bits[start:end].neg()).cumsum(0)
        here = (lengths > start).logical_and_(lengths <= end)
        found = torch.where(here, before + sums[(lengths - start - 1).clamp(0, end - start - 1)], found)
        before = before + sums[-1]
    return found


def norms(pieces: Iterable[tuple[torch.Tensor, torch.Tensor]], groups: int) -> torch.Tensor:
    """Return the L1 norm of each group of values, (groups,) float64 in main memory.

    Args:
        pieces: float32 values >= 0 and the group of each, int64. A group has less than 2^29 values of one exponent, so
            that their float64 sum is exact.
        groups: number of groups.
    """
    total: torch.Tensor | None = None
    for values, group in pieces:
        if total is None:
            total = torch.zeros(groups * EXPONENTS, dtype=torch.float64, device=values.device)
        exponent = values.view(torch.int32) >> MANTISSA_BITS
        total.index_add_(0, group * EXPONENTS + exponent, values.double())
    found = torch.zeros(groups, dtype=torch.float64)
    for column in reversed(() if total is None else total.view(groups, EXPONENTS).cpu().unbind(1)):
        found += column
    return found
