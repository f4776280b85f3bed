"""Compiled statistics of task vectors: thresholds, masked norms and inner products."""

from typing import Any

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    as_bits,
    compiled,
    load,
    part,
    uniform,
)

COUNT, COLLECT, FIND = 0, 1, 2  # tasks of a pass over |delta|
GROUP = 64  # patterns looked at together where few are wanted


@part
def delta(
    base: int, base_kind: int, model: int, kind: int, start: int, length: int, tile: Array, origin: Array
) -> None:
    """Write a tile of a task vector into `tile`."""
    load(model, kind, start, length, tile)
    load(base, base_kind, start, length, origin)
    for k in range(length):
        tile[k] -= origin[k]


@compiled
def scan(
    where: Array, size: int, task: int, wanted: Array, counts: Array, found: Array, patterns: Array, work: Array
) -> int:
    """Pass over the patterns of |delta| once, for one of three tasks.

    They are one function, as whatever reads tensors by itself takes a fifth of a second to compile.

    Args:
        where: (4,) int64, address and dtype of the base, and of the model.
        size: elements of both.
        task: COUNT: count the patterns that are >= each of 8 pivots. COLLECT: write those from one to another, in any
            order. FIND: look for the first one equal to another after some others.
        wanted: (8,) int32: the pivots; the smallest and the largest pattern; the pattern.
        counts: (8,) int64: what is counted; nothing; how many others come before.
        found: int32, what is collected: long enough for all of it and GROUP more.
        patterns: (TILE,) int32 of working memory.
        work: (2, TILE) float32 of working memory.

    Returns:
        Nothing of use; how many are collected; the position, `size` if there is none.
    """
    tile, origin, first, skip = work[0], work[1], wanted[0], counts[0]
    width = np.uint32(wanted[1] - first)
    at: Any = 0
    for start in range(0, size, TILE):
        length = size - start if size - start < TILE else TILE
        load(where[2], where[3], start, length, tile)
        load(where[0], where[1], start, length, origin)
        for k in range(length):
            patterns[k] = np.int32(as_bits(tile[k] - origin[k]) & np.uint32(0x7FFFFFFF))
        for k in range(length, TILE):
            patterns[k] = -1
        if task == COUNT:
            for i in range(len(wanted)):
                pivot, larger = wanted[i], np.int32(0)
                for k in range(TILE):
                    larger = np.int32(larger + np.int32(patterns[k] >= pivot))
                counts[i] += larger
        elif task == COLLECT:
            for group in range(0, TILE, GROUP):
                hits = np.int32(0)
                for k in range(group, group + GROUP):
                    hits |= np.int32(np.uint32(patterns[k] - first) <= width)
                if hits:  # seldom; then without a branch for each, which could not be predicted
                    for k in range(group, group + GROUP):
                        found[at] = patterns[k]
                        at += np.int64(np.uint32(patterns[k] - first) <= width)
        else:
            here: Any = np.int32(0)
            for k in range(TILE):
                here += np.int32(patterns[k] == first)
            for k in range(TILE if at + here > skip else 0):
                if patterns[k] == first:
                    if at == skip:
                        return start + k
                    at += 1
            at += here
    return int(at) if task == COLLECT else size


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


@part
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


@part
def _halve(values: Array, length: int) -> float:
    """Return the sum of `length` values, a power of 2, in the same order."""
    half = length // 2
    while half:
        for k in range(half):
            values[k] += values[half + k]
        half //= 2
    return values[0]


@part
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
