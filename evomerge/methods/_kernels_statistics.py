"""Compiled statistics of task vectors: thresholds, masked norms and inner products."""

from typing import Any

import numpy as np

from evomerge.methods._kernels_memory import TILE, Array, as_bits, compiled, load, mix, uniform


@compiled
def _delta(
    base: int, base_kind: int, model: int, kind: int, start: int, length: int, tile: Array, origin: Array
) -> None:
    """Write a tile of a task vector into `tile`."""
    load(model, kind, start, length, tile)
    load(base, base_kind, start, length, origin)
    for k in range(length):
        tile[k] -= origin[k]


@compiled
def sample(base: int, base_kind: int, model: int, kind: int, size: int, bits: Array) -> None:
    """Write the patterns of |delta| at len(bits) positions, one in each of as many equal stretches, into `bits`."""
    tile, origin = np.empty(1, np.float32), np.empty(1, np.float32)
    count = len(bits)
    for i in range(count):
        low, high = i * size // count, (i + 1) * size // count
        # Any place in its stretch will do: a fixed one could fall in step with the rows of a matrix.
        position = low + np.int64(mix(np.uint32(i))) % (high - low)
        _delta(base, base_kind, model, kind, position, 1, tile, origin)
        bits[i] = np.int32(as_bits(tile[0]) & np.uint32(0x7FFFFFFF))


@compiled
def _inside(tile: Array, length: int, low: int, high: int, patterns: Array, kept: Array) -> tuple[int, int]:
    """Return how many of a tile's patterns are above `high`, and from `low` to `high`; write these into `kept`."""
    first, last = np.int32(low), np.int32(high)
    larger: Any = np.int32(0)
    within: Any = np.int32(0)
    for k in range(length):
        pattern = np.int32(as_bits(tile[k]) & np.uint32(0x7FFFFFFF))
        patterns[k] = pattern
        larger += np.int32(pattern > last)
        within += np.int32(pattern >= first)
    if within > larger:
        at: Any = 0
        for k in range(length):  # without a branch, which could not be predicted
            kept[at] = patterns[k]
            at += np.int64(first <= patterns[k]) & np.int64(patterns[k] <= last)
    return int(larger), int(within - larger)


@compiled
def between(
    base: int, base_kind: int, model: int, kind: int, size: int, low: int, high: int, found: Array
) -> tuple[int, int]:
    """Count |delta| with patterns above `high`, and collect those from `low` to `high` into `found`.

    Returns:
        How many are above, and how many are inside: more than len(found) if they did not fit.
    """
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    patterns, kept = np.empty(TILE, np.int32), np.empty(TILE + 1, np.int32)
    above, inside, room = 0, 0, len(found)
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        _delta(base, base_kind, model, kind, start, length, tile, origin)
        larger, within = _inside(tile, length, low, high, patterns, kept)
        if inside + within <= room:
            found[inside : inside + within] = kept[:within]
        above += larger
        inside += within
    return above, inside


@compiled
def spectrum(
    base: int, base_kind: int, model: int, kind: int, size: int, low: int, high: int, shift: int, bins: Array
) -> int:
    """Count |delta| with patterns from `low` to `high` by (pattern - low) >> shift; return how many are above.

    bins: (n, 3) int64: how many, and the smallest and largest pattern of each bin.
    """
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    patterns, kept = np.empty(TILE, np.int32), np.empty(TILE + 1, np.int32)
    above = 0
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        _delta(base, base_kind, model, kind, start, length, tile, origin)
        larger, within = _inside(tile, length, low, high, patterns, kept)
        above += larger
        for k in range(within):
            pattern = np.int64(kept[k])
            row = bins[(pattern - low) >> shift]
            row[0] += 1
            row[1] = min(row[1], pattern)
            row[2] = max(row[2], pattern)
    return above


@compiled
def nth_equal(base: int, base_kind: int, model: int, kind: int, size: int, pattern: int, skip: int) -> int:
    """Return the position of the first |delta| with this pattern after `skip` others; `size` if there is none."""
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    wanted = np.uint32(pattern)
    seen: Any = 0
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        _delta(base, base_kind, model, kind, start, length, tile, origin)
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
    """Add up |delta| by random bits, in flat order, from position `start` (a multiple of TILE) on.

    key: the two keys of the address. cut: with 0, sums is (1024,) by the bits' upper ten; otherwise (2,): kept
    (bits < cut) and not.
    """
    tile, origin, bits = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for at in range(start, start + size, TILE):
        length = min(TILE, start + size - at)
        _delta(base, base_kind, model, kind, at, length, tile, origin)
        uniform(key[0], key[1], at, length, bits)
        if cut == 0:
            for k in range(length):
                sums[bits[k] >> 14] += abs(tile[k])
        else:
            for k in range(length):
                sums[0 if bits[k] < cut else 1] += abs(tile[k])


@compiled
def _halve(values: Array, length: int) -> float:
    """Return the sum of `length` values, a power of 2, by adding the upper half to the lower until one is left."""
    half = length // 2
    while half:
        for k in range(half):
            values[k] += values[half + k]
        half //= 2
    return values[0]


@compiled
def gram(addresses: Array, kinds: Array, based: bool, size: int, chunk: int, total: Array) -> None:
    """Add the inner products of `_gram.gram` to `total`, (n, n) float64, its upper half only."""
    count, tiles = len(addresses), chunk // TILE
    tile, rows, product = np.empty(TILE, np.float32), np.empty((count, TILE)), np.empty(TILE)
    sums = np.empty((count, count, tiles))
    for first in range(0, size, chunk):
        sums[:] = 0
        for at in range(tiles):
            start = first + at * TILE
            length = min(TILE, size - start)
            if length <= 0:
                break
            for i in range(count):
                row = rows[i]
                load(addresses[i], kinds[i], start, length, tile)
                for k in range(length):
                    row[k] = tile[k]
                row[length:] = 0
                if based and i:
                    for k in range(length):
                        row[k] -= rows[0, k]
            for i in range(count):
                for j in range(i, count):
                    left, right = rows[i], rows[j]
                    for k in range(TILE):
                        product[k] = left[k] * right[k]
                    sums[i, j, at] = _halve(product, TILE)
        for i in range(count):
            for j in range(i, count):
                total[i, j] += _halve(sums[i, j], tiles)
