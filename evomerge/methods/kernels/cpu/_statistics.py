"""Compiled statistics of task vectors: thresholds, masked norms and inner products."""

from typing import Any

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    as_bits,
    compiled,
    load,
    mix,
    uniform,
)

GROUP = 64  # patterns looked at together where few are wanted


@compiled
def delta(
    base: int, base_kind: int, model: int, kind: int, start: int, length: int, tile: Array, origin: Array
) -> None:
    """Write a tile of a task vector into `tile`."""
    load(model, kind, start, length, tile)
    load(base, base_kind, start, length, origin)
    for k in range(length):
        tile[k] -= origin[k]


@compiled
def _patterns(
    base: int, base_kind: int, model: int, kind: int, start: int, length: int, patterns: Array, work: Array
) -> None:
    """Write the patterns of a tile's |delta| into `patterns`, (TILE,) int32, then -1; `work` is (2, TILE)."""
    tile = work[0]
    delta(base, base_kind, model, kind, start, length, tile, work[1])
    for k in range(length):
        patterns[k] = np.int32(as_bits(tile[k]) & np.uint32(0x7FFFFFFF))
    for k in range(length, TILE):
        patterns[k] = -1


@compiled
def sample(base: int, base_kind: int, model: int, kind: int, size: int, run: int, found: Array) -> None:
    """Write patterns of |delta| into `found`: `run` neighbors from each of as many equal stretches as it takes."""
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    count = len(found) // run
    for i in range(count):
        low, high = i * size // count, (i + 1) * size // count
        # Any place in its stretch will do: a fixed one could fall in step with the rows of a matrix.
        position = low + np.int64(mix(np.uint32(i))) % (high - low - run + 1)
        delta(base, base_kind, model, kind, position, run, tile, origin)
        for k in range(run):
            found[i * run + k] = np.int32(as_bits(tile[k]) & np.uint32(0x7FFFFFFF))


@compiled
def at_least(base: int, base_kind: int, model: int, kind: int, size: int, pivots: Array, counts: Array) -> None:
    """Count the patterns of |delta| that are >= each of the 8 pivots, (8,) int32, into `counts`, (8,) int64."""
    patterns, work = np.empty(TILE, np.int32), np.empty((2, TILE), np.float32)
    p0, p1, p2, p3, p4, p5, p6, p7 = [pivots[i] for i in range(8)]
    counts[:] = 0
    for start in range(0, size, TILE):
        _patterns(base, base_kind, model, kind, start, min(TILE, size - start), patterns, work)
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = np.int32(0)
        for k in range(TILE):
            pattern = patterns[k]
            c0 = np.int32(c0 + np.int32(pattern >= p0))
            c1 = np.int32(c1 + np.int32(pattern >= p1))
            c2 = np.int32(c2 + np.int32(pattern >= p2))
            c3 = np.int32(c3 + np.int32(pattern >= p3))
            c4 = np.int32(c4 + np.int32(pattern >= p4))
            c5 = np.int32(c5 + np.int32(pattern >= p5))
            c6 = np.int32(c6 + np.int32(pattern >= p6))
            c7 = np.int32(c7 + np.int32(pattern >= p7))
        for i, count in enumerate((c0, c1, c2, c3, c4, c5, c6, c7)):
            counts[i] += count


@compiled
def collect(base: int, base_kind: int, model: int, kind: int, size: int, low: int, high: int, found: Array) -> int:
    """Write the patterns of |delta| from `low` to `high` into `found`, in any order, and return how many there are.

    `found` is int32, long enough for all of them and GROUP more.
    """
    patterns, work = np.empty(TILE, np.int32), np.empty((2, TILE), np.float32)
    first, width = np.int32(low), np.uint32(high - low)
    at: Any = 0
    for start in range(0, size, TILE):
        _patterns(base, base_kind, model, kind, start, min(TILE, size - start), patterns, work)
        for group in range(0, TILE, GROUP):
            hits = np.int32(0)
            for k in range(group, group + GROUP):
                hits |= np.int32(np.uint32(patterns[k] - first) <= width)
            if hits:  # seldom; then without a branch for each, which could not be predicted
                for k in range(group, group + GROUP):
                    found[at] = patterns[k]
                    at += np.int64(np.uint32(patterns[k] - first) <= width)
    return int(at)


@compiled
def nth_equal(base: int, base_kind: int, model: int, kind: int, size: int, pattern: int, skip: int) -> int:
    """Return the position of the first |delta| with this pattern after `skip` others; `size` if there is none."""
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    wanted = np.uint32(pattern)
    seen: Any = 0
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        delta(base, base_kind, model, kind, start, length, tile, origin)
        here: Any = np.int32(0)
        for k in range(length):
            here += np.int32((as_bits(tile[k]) & np.uint32(0x7FFFFFFF)) == wanted)
        if seen + here > skip:
            for k in range(length):
                if (as_bits(tile[k]) & np.uint32(0x7FFFFFFF)) == wanted:
                    if seen == skip:
                        return start + k
                    seen += 1
        seen += here
    return size


@compiled
def masked_sums(
    base: int, base_kind: int, model: int, kind: int, start: int, size: int, key: Array, cut: int, sums: Array
) -> None:
    """Add up |delta| by random bits, in flat order, from position `start` on.

    Args:
        base: address of the base.
        base_kind: its dtype.
        model: address of the model.
        kind: its dtype.
        start: a multiple of TILE.
        size: elements to add up.
        key: the two keys of the mask's address.
        cut: an element is kept where its bits are below this; 0 = add up by the bits' upper ten.
        sums: float64, added to: (2,) of what is kept and what is not, or (1024,) with cut 0.
    """
    tile, origin, bits = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for at in range(start, start + size, TILE):
        length = min(TILE, start + size - at)
        delta(base, base_kind, model, kind, at, length, tile, origin)
        uniform(key[0], key[1], at, length, bits)
        if cut == 0:
            for k in range(length):
                sums[bits[k] >> 14] += abs(tile[k])
        else:
            for k in range(length):
                sums[0 if bits[k] < cut else 1] += abs(tile[k])


@compiled
def _inner(left: Array, right: Array, half: Array) -> float:
    """Return the inner product of two tiles, (512,) float64, by adding the upper half to the lower until one is left.

    Lengths are written out, or the loops would not be compiled into vector instructions. `half`: (256,) of working
    memory.
    """
    for k in range(256):
        half[k] = left[k] * right[k] + left[256 + k] * right[256 + k]
    for k in range(128):
        half[k] += half[128 + k]
    for k in range(64):
        half[k] += half[64 + k]
    for k in range(32):
        half[k] += half[32 + k]
    for k in range(16):
        half[k] += half[16 + k]
    for k in range(8):
        half[k] += half[8 + k]
    return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]))


@compiled
def _halve(values: Array, length: int) -> float:
    """Return the sum of `length` values, a power of 2, in the same order."""
    half = length // 2
    while half:
        for k in range(half):
            values[k] += values[half + k]
        half //= 2
    return values[0]


@compiled
def _row(address: int, kind: int, start: int, length: int, origin: Array, based: bool, tile: Array, row: Array) -> None:
    """Write a tile of a tensor, less `origin` if it is `based`, into `row`, (TILE,) float64, and 0 behind it."""
    load(address, kind, start, length, tile)
    if based:
        for k in range(length):
            row[k] = np.float64(tile[k]) - origin[k]
    else:
        for k in range(length):
            row[k] = tile[k]
    for k in range(length, TILE):
        row[k] = 0


@compiled
def gram(addresses: Array, kinds: Array, based: bool, size: int, chunk: int, total: Array) -> None:
    """Add the inner products of `_gram.gram` to `total`, (n, n) float64, its upper half only."""
    count, tiles = len(addresses), chunk // TILE
    tile, rows, half = np.empty(TILE, np.float32), np.empty((count, TILE)), np.empty(TILE // 2)
    sums = np.empty((count, count, tiles))
    for first in range(0, size, chunk):
        sums[:] = 0
        for at in range(tiles):
            start = first + at * TILE
            length = min(TILE, size - start)
            if length <= 0:
                break
            for i in range(count):
                _row(addresses[i], kinds[i], start, length, rows[0], based and i > 0, tile, rows[i])
            for i in range(count):
                for j in range(i, count):
                    sums[i, j, at] = _inner(rows[i], rows[j], half)
        for i in range(count):
            for j in range(i, count):
                total[i, j] += _halve(sums[i, j], tiles)
