"""A compiled table of selections: three passes over a task vector answer for every density of the grid at once.

Patterns of |delta| (31 bits) are counted by their upper bits, then, where a wanted rank falls, by the rest; a third
pass finds where the ties of each threshold end. Numbers are those of `statistics._selection`, bit for bit.
"""

from typing import Any

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    as_bits,
    compiled,
    part,
)
from evomerge.methods.kernels.cpu._statistics import delta

REST = 12  # bits of a pattern that the first pass leaves
UPPER = 1 << (31 - REST)  # of these, the values of a tensor fall into some thousands, which stay in a cache
LOWER = 1 << REST
STRIDE = LOWER + 16  # between rows of counters: a power of 2 would put equal lower bits of all rows into one cache set
SUM_BITS = 40  # of a counter hold the sum of the lower bits, those above the count
FLUSH_ELEMENTS = 1 << 22  # elements after which neither can overflow


@part
def _pattern(value: Any) -> Any:
    return as_bits(value) & np.uint32(0x7FFFFFFF)


@part
def _upper(pattern: Any) -> Any:
    return np.uint64(pattern >> np.uint32(REST))


@part
def _lower(pattern: Any) -> Any:
    return np.int64(pattern & np.uint32(LOWER - 1))


@part
def _count(base: int, base_kind: int, model: int, kind: int, size: int, counts: Array, sums: Array) -> None:
    """Count patterns by their upper bits and add up their lower ones: (UPPER,) int64 each."""
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    both = np.zeros(UPPER, np.int64)
    for first in range(0, size, FLUSH_ELEMENTS):
        end = min(size, first + FLUSH_ELEMENTS)
        for start in range(first, end, TILE):
            length = min(TILE, end - start)
            delta(base, base_kind, model, kind, start, length, tile, origin)
            for k in range(length):
                pattern = _pattern(tile[k])
                both[_upper(pattern)] += (1 << SUM_BITS) | _lower(pattern)
        for key in range(UPPER):
            if both[key]:
                counts[key] += both[key] >> SUM_BITS
                sums[key] += both[key] & ((1 << SUM_BITS) - 1)
                both[key] = 0


@part
def _rows(counts: Array, ranks: Array) -> tuple[Array, int]:
    """Return (UPPER,) int32, where the counters start for the patterns of an upper part, and how many rows there are.

    Each upper part that holds a wanted rank has a row of its own; all others share the last: a branch for them could
    not be predicted.
    """
    starts = np.full(UPPER, -1, np.int32)
    above, found, rank = 0, 0, 0
    for key in range(UPPER - 1, -1, -1):
        above += counts[key]
        if rank < len(ranks) and ranks[rank] <= above:
            starts[key] = found * STRIDE
            found += 1
            while rank < len(ranks) and ranks[rank] <= above:
                rank += 1
    for key in range(UPPER):
        if starts[key] < 0:
            starts[key] = found * STRIDE
    return starts, found + 1


@part
def _refine(base: int, base_kind: int, model: int, kind: int, size: int, starts: Array, lower: Array) -> None:
    """Count patterns by row and lower bits: (rows * STRIDE,) int32."""
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        delta(base, base_kind, model, kind, start, length, tile, origin)
        for k in range(length):
            pattern = _pattern(tile[k])
            lower[np.uint64(starts[_upper(pattern)] + _lower(pattern))] += np.int32(1)


@part
def _units(pattern: int) -> int:
    """Return a value as a whole multiple of its exponent's smallest step."""
    return pattern & 0x7FFFFF | 0x800000 if pattern >> 23 else pattern


@part
def _scaled(units: int, exponent: int) -> float:
    return units * 2.0 ** (max(exponent, 1) - 150)


@part
def _thresholds(
    counts: Array, sums: Array, starts: Array, shared: int, lower: Array, ranks: Array, found: Array, places: Array
) -> None:
    """Write pattern, ties and L1 norm of each rank into `found`.

    Args:
        counts: (UPPER,) how many values have each upper part of a pattern.
        sums: (UPPER,) sum of their lower parts.
        starts: (UPPER,) where the row of counters of an upper part starts in `lower`.
        shared: start of the row that stands for no wanted rank.
        lower: rows of LOWER counters, one row for each upper part that holds a wanted rank.
        ranks: wanted ranks from the largest value, ascending, from 1.
        found: (ranks, 3) float64, written.
        places: (ranks,) written: the counter of each threshold.
    """
    rank, above = 0, 0  # values larger than those of the upper part that is looked at
    higher, units, exponent = 0.0, 0, 255  # norm of larger exponents, whole steps of this one
    for key in range(UPPER - 1, -1, -1):
        if key >> (23 - REST) != exponent:
            higher += _scaled(units, exponent)
            units, exponent = 0, exponent - 1
        if starts[key] != shared:
            inside, part = above, units
            for low in range(LOWER - 1, -1, -1):
                here, pattern = np.int64(lower[starts[key] + low]), key << REST | low
                while rank < len(ranks) and ranks[rank] <= inside + here:
                    ties = ranks[rank] - inside
                    found[rank, 0], found[rank, 1] = pattern, ties
                    found[rank, 2] = higher + _scaled(part + ties * _units(pattern), exponent)
                    places[rank] = starts[key] + low
                    rank += 1
                inside += int(here)
                part += here * _units(pattern)
        above += counts[key]
        units += counts[key] * _units(key << REST) + sums[key]


@part
def _tie_ends(
    base: int, base_kind: int, model: int, kind: int, size: int, starts: Array, marks: Array, ties: Array, ends: Array
) -> None:
    """Write where the first value equal to each threshold after `ties` others lies; `size` stays where none does.

    Args:
        base: address of the base.
        base_kind: its dtype.
        model: address of the model.
        kind: its dtype.
        size: elements of both.
        starts: (UPPER,) where the row of an upper part of a pattern starts in `marks`.
        marks: (rows * STRIDE,) uint16: 1 + the first rank that has this pattern for a threshold, or 0.
        ties: (ranks,) int64; those of one threshold ascend.
        ends: (ranks,) written.
    """
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    seen = np.zeros(len(ties) + 1, np.int64)
    wanted = np.full(len(ties) + 1, -1, np.int64)  # the number of the equal value that is waited for
    wanted[1:] = ties
    pending = np.arange(-1, len(ties))
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        delta(base, base_kind, model, kind, start, length, tile, origin)
        for k in range(length):
            pattern = _pattern(tile[k])
            mark = np.uint64(marks[np.uint64(starts[_upper(pattern)] + _lower(pattern))])
            if seen[mark] == wanted[mark]:
                rank: Any = pending[mark]
                while rank < len(ties) and ends[rank] == -1 - np.int64(mark) and ties[rank] == seen[mark]:
                    ends[rank] = start + k
                    rank += 1
                more = rank < len(ties) and ends[rank] == -1 - np.int64(mark)
                wanted[mark], pending[mark] = ties[rank] if more else -1, rank
            seen[mark] += 1
    for rank in range(len(ends)):
        if ends[rank] < 0:
            ends[rank] = size


@compiled
def table(base: int, base_kind: int, model: int, kind: int, size: int, ranks: Array, found: Array, ends: Array) -> None:
    """Select many sizes at once.

    Args:
        ranks: (n,) int64, ascending, n < 2^15: how many of the largest |delta| to keep.
        found: (n, 3) float64, written: pattern of the threshold, how many equal to it are kept, L1 norm of the kept.
        ends: (n,) int64, written: where the first equal one lies that is not kept; `size` if there is none.
    """
    counts, sums = np.zeros(UPPER, np.int64), np.zeros(UPPER, np.int64)
    _count(base, base_kind, model, kind, size, counts, sums)
    starts, rows = _rows(counts, ranks)
    lower = np.zeros(rows * STRIDE, np.int32)
    _refine(base, base_kind, model, kind, size, starts, lower)
    places = np.empty(len(ranks), np.int64)
    _thresholds(counts, sums, starts, (rows - 1) * STRIDE, lower, ranks, found, places)
    marks = np.zeros(rows * STRIDE, np.uint16)
    for rank in range(len(ranks)):
        if marks[places[rank]] == 0:
            marks[places[rank]] = rank + 1
        ends[rank] = -1 - np.int64(marks[places[rank]])  # until it is found
    _tie_ends(base, base_kind, model, kind, size, starts, marks, found[:, 1].astype(np.int64), ends)
