"""Exact selection of the largest values of a tensor: threshold, ties and L1 norms, without sorting large tensors.

Values are the magnitudes |x| of a stretch of a tensor, read again whenever they are needed. Ties count by flat
position. L1 norms are summed for each binary exponent by itself, where a float64 sum of float32 values is exact (up
to 2^29 of them), and the exponents then from large to small: no order of reading can change them.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from evomerge.methods.statistics._gram import CHUNK_ELEMENTS

Values = Callable[[int, int], torch.Tensor]  # (start, end) -> |x| of that stretch, float32 or float64

SMALL = 1 << 20  # up to here selection by torch's kthvalue and tables by sorting are fastest
MANTISSA_BITS = 23
INFINITE = float("inf")


class Cut(NamedTuple):
    """Which elements are kept: those > `threshold`, and those equal to it at flat positions below `tie_end`."""

    threshold: float
    tie_end: int


KEEP_NONE = Cut(INFINITE, 0)


class SelectionTable(NamedTuple):
    """Selections of several sizes.

    Attributes:
        thresholds: of each selection.
        ties: how many of the elements equal to the threshold are kept.
        l1: the L1 norm of what is kept.
    """

    thresholds: list[float]
    ties: list[int]
    l1: list[float]


def chunks(size: int, length: int = CHUNK_ELEMENTS) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive stretches."""
    for start in range(0, size, length):
        yield start, min(size, start + length)


def select(values: Values, size: int, count: int) -> Cut:
    """Return the cut that keeps the largest values, ties by position.

    Args:
        values: reads a stretch.
        size: number of values.
        count: how many to keep, 0 to size.
    """
    if count <= 0:
        return KEEP_NONE
    if size <= SMALL or values(0, 1).dtype == torch.float64:
        everything = values(0, size)
        threshold = float(everything.kthvalue(size - count + 1).values)
        ties = count - int((everything > threshold).sum())
        return Cut(threshold, tie_end(values, size, threshold, ties))
    table = _count(values, size, [count])
    return Cut(table.thresholds[0], tie_end(values, size, table.thresholds[0], table.ties[0]))


def tie_end(values: Values, size: int, threshold: float, ties: int) -> int:
    """Return where the first value equal to `threshold` after `ties` others lies; `size` if there is none."""
    seen = 0
    for start, end in chunks(size):
        equal = values(start, end) == threshold
        here = int(equal.sum())
        if seen + here > ties:
            return start + int(equal.nonzero()[ties - seen])
        seen += here
    return size


def kept_l1(values: Values, size: int, cut: Cut) -> float:
    """Return the L1 norm of what `cut` keeps."""
    sums = torch.zeros(1 << 11, dtype=torch.float64)
    for start, end in chunks(size):
        piece = values(start, end)
        kept = piece > cut.threshold
        tied = min(end, cut.tie_end) - start
        if tied > 0:
            kept[:tied] |= piece[:tied] == cut.threshold
        weights = piece.double().masked_fill_(kept.logical_not_(), 0)
        sums += torch.bincount(_exponents(piece), weights=weights, minlength=sums.numel()).cpu()
    return _down(sums.tolist())


def _exponents(values: torch.Tensor) -> torch.Tensor:
    if values.dtype == torch.float64:
        return values.view(torch.int64) >> 52
    return values.view(torch.int32) >> MANTISSA_BITS


def _down(sums: list[float]) -> float:
    total = 0.0
    for value in reversed(sums):
        total += value
    return total


def select_all(values: Values, size: int, counts: list[int]) -> SelectionTable:
    """Return the selections of `counts` values each (1 to size, any order), of float32 values."""
    return _sort(values, size, counts) if size <= SMALL else _count(values, size, counts)


def _sort(values: Values, size: int, counts: list[int]) -> SelectionTable:
    bits = values(0, size).view(torch.int32).cpu().sort(descending=True).values
    ranks = torch.tensor(counts) - 1
    chosen = bits[ranks]
    above = torch.searchsorted(-bits, -chosen)  # how many are larger than the threshold
    units = units_of(bits).cumsum(0)  # exact: integers
    exponent = bits >> MANTISSA_BITS
    starts = torch.searchsorted(-exponent, -torch.arange(256, dtype=exponent.dtype))  # of an exponent's values
    ends = torch.searchsorted(-exponent, -torch.arange(256, dtype=exponent.dtype), right=True)
    before = torch.cat([torch.zeros(1, dtype=torch.int64), units])
    whole = scaled(before[ends] - before[starts], torch.arange(256))
    last = exponent[ranks].long()
    part = scaled(units[ranks] - before[starts[last]], last)
    l1 = [higher + rest for higher, rest in zip(sums_above(whole, last), part.tolist(), strict=True)]
    return SelectionTable(chosen.view(torch.float32).tolist(), (ranks + 1 - above).tolist(), l1)


def units_of(bits: torch.Tensor) -> torch.Tensor:
    """Return each value as a whole multiple of its exponent's smallest step, int64."""
    whole = bits.long()
    return torch.where(whole >> MANTISSA_BITS > 0, whole & 0x7FFFFF | 0x800000, whole)


def scaled(units: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Turn sums of `units_of` of one exponent each back into float64."""
    return units.double() * torch.exp2(exponent.clamp(min=1).double() - 150)


def sums_above(whole: torch.Tensor, exponent: torch.Tensor) -> list[float]:
    """Return, for each exponent, the sum of `whole` over the larger ones, from large to small."""
    sums = [0.0] * 257
    values = whole.tolist()
    for e in range(255, -1, -1):
        sums[e] = sums[e + 1] + values[e]
    return [sums[e + 1] for e in exponent.tolist()]


class _Level(NamedTuple):
    """One step of counting: `width` bits of the pattern, with `rest` less significant ones left for later steps."""

    width: int
    rest: int


# 31 bits of magnitude, most significant first; every step's counters fit a second-level cache.
LEVELS = (_Level(16, 15), _Level(7, 8), _Level(8, 0))


def _count(values: Values, size: int, counts: list[int]) -> SelectionTable:
    """Radix selection for many ranks at once: count by the upper bits, then only where a rank falls, by the next."""
    inside = torch.tensor(counts)  # rank among the values of the bin found so far, from the largest
    slot = torch.zeros_like(inside)  # which of the bins found so far
    prefixes = torch.zeros(1, dtype=torch.int64)  # the upper bits of those bins
    units = torch.zeros_like(inside)  # sum of larger values of the same exponent, in its smallest steps
    whole = torch.zeros(0)
    lookups: list[torch.Tensor] = []
    for level in LEVELS:
        keys = prefixes[:, None] << level.width | torch.arange(1 << level.width)
        count, low = count_patterns(values, size, lookups, len(prefixes))
        sums = count * units_of(keys.view(-1) << level.rest) + low
        values_down, units_down = _from_above(count), _from_above(sums)
        key = torch.searchsorted(-values_down, -(inside + values_down[(slot + 1) << level.width]), right=True) - 1
        inside = inside + values_down[(slot + 1) << level.width] - values_down[key + 1]
        if not lookups:
            whole = scaled(sums.view(256, -1).sum(1), torch.arange(256))
            units = units_down[key + 1] - units_down[((key >> 8) + 1) << 8]  # 8 mantissa bits follow the exponent
        else:
            units = units + units_down[key + 1] - units_down[(slot + 1) << level.width]
        found, slot = key.unique(return_inverse=True)
        prefixes = keys.view(-1)[found]
        lookups.append(torch.full((count.numel(),), -1, dtype=torch.int64).index_fill_(0, found, 0))
        lookups[-1][found] = torch.arange(len(found))
    chosen = prefixes[slot]
    exponent = chosen >> MANTISSA_BITS
    part = scaled(units + inside * units_of(chosen), exponent)
    l1 = [higher + rest for higher, rest in zip(sums_above(whole, exponent), part.tolist(), strict=True)]
    return SelectionTable(chosen.to(torch.int32).view(torch.float32).tolist(), inside.tolist(), l1)


def _from_above(counts: torch.Tensor) -> torch.Tensor:
    """Return (n + 1,): the sum of each element and all after it."""
    return torch.cat([counts.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=counts.dtype)])


def count_patterns(
    values: Values, size: int, lookups: list[torch.Tensor], slots: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count values by the next bits of their pattern.

    Args:
        values: reads a stretch.
        size: number of values.
        lookups: of each level done, which bin a key falls into (-1 = none).
        slots: number of bins.

    Returns:
        (slots << width,) int64 twice: how many values have a key, and the sum of their remaining lower bits.
    """
    level = LEVELS[len(lookups)]
    count = torch.zeros(slots << level.width, dtype=torch.int64)
    low = torch.zeros_like(count)
    for start, end in chunks(size):
        bits = values(start, end).view(torch.int32).cpu()
        key = bits.long() >> LEVELS[0].rest
        for step, lookup in zip(LEVELS[1:], lookups, strict=False):
            slot = lookup[key]
            bits, slot = bits[slot >= 0], slot[slot >= 0]
            key = slot << step.width | bits >> step.rest & (1 << step.width) - 1
        count += torch.bincount(key, minlength=count.numel())
        rest = (bits & (1 << level.rest) - 1).double()  # sums of these are exact over a chunk
        low += torch.bincount(key, weights=rest, minlength=count.numel()).long()
    return count, low
