"""Compiled merges: linear combinations and the sparse family, from stored bytes to rounded bytes in one pass."""

import numpy as np

from evomerge.methods._kernels_memory import TILE, Array, compiled, load, store, uniform

ALL, CUT, RANDOM = 0, 1, 2  # what a model's task vector keeps


@compiled
def combine(addresses: Array, kinds: Array, factors: Array, out: int, out_kind: int, size: int, gain: float) -> bool:
    """Write gain * sum(factors[i] x_i); return whether it is finite. factors: (n,) float32, n >= 1."""
    tile, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    finite, scale = True, np.float32(gain)
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        for i in range(len(addresses)):
            load(addresses[i], kinds[i], start, length, tile)
            factor = factors[i]
            if i == 0:
                for k in range(length):
                    total[k] = tile[k] * factor
            else:
                for k in range(length):
                    total[k] += tile[k] * factor
        if gain != 1:
            for k in range(length):
                total[k] *= scale
        finite &= store(out, out_kind, start, length, total)
    return finite


# What is left out is multiplied by 0, not replaced by it, so that NaN and infinity come through, as in the torch code.


@compiled
def _whole(tile: Array, origin: Array, length: int, vote: float, total: Array) -> None:
    """Turn a tile of a model into vote * (model - base), and add it to `total`."""
    for k in range(length):
        value = (tile[k] - origin[k]) * vote
        tile[k] = value
        total[k] += value


@compiled
def _largest(tile: Array, origin: Array, length: int, cut: tuple[float, int], vote: float, total: Array) -> None:
    """Do what `_whole` does inside a cut (threshold, end of its ties, counted from the tile's start), elsewhere 0."""
    threshold, end = cut[0], np.int32(min(max(cut[1], 0), length))
    for k in range(length):
        delta = tile[k] - origin[k]
        size = abs(delta)
        inside = (size > threshold) | ((size == threshold) & (np.int32(k) < end))
        value = delta * (vote if inside else np.float32(0))
        tile[k] = value
        total[k] += value


@compiled
def _window(
    tile: Array,
    origin: Array,
    length: int,
    keep: tuple[float, int],
    drop: tuple[float, int],
    vote: float,
    total: Array,
) -> None:
    """Do what `_largest` does, but 0 inside a second cut."""
    low, low_end = keep[0], np.int32(min(max(keep[1], 0), length))
    high, high_end = drop[0], np.int32(min(max(drop[1], 0), length))
    for k in range(length):
        delta = tile[k] - origin[k]
        size = abs(delta)
        inside = (size > low) | ((size == low) & (np.int32(k) < low_end))
        dropped = (size > high) | ((size == high) & (np.int32(k) < high_end))
        value = delta * (vote if inside & (not dropped) else np.float32(0))
        tile[k] = value
        total[k] += value


@compiled
def _random(tile: Array, origin: Array, length: int, bits: Array, below: int, vote: float, total: Array) -> None:
    """Do what `_whole` does where the bits are < below, elsewhere 0."""
    for k in range(length):
        value = (tile[k] - origin[k]) * (vote if bits[k] < below else np.float32(0))
        tile[k] = value
        total[k] += value


@compiled
def _thin(
    i: int,
    tile: Array,
    origin: Array,
    start: int,
    length: int,
    rules: Array,
    numbers: Array,
    thresholds: Array,
    vote: float,
    bits: Array,
    total: Array,
) -> None:
    """Turn a tile of model `i` into its thinned task vector times `vote`, and add it to `total` (see `sparse`)."""
    if rules[i, 0] == RANDOM:
        uniform(numbers[i, 0], numbers[i, 1], start, length, bits)
        _random(tile, origin, length, bits, np.uint32(numbers[i, 2]), vote, total)
    elif rules[i, 0] == ALL:
        _whole(tile, origin, length, vote, total)
    elif rules[i, 1]:
        low, high = (thresholds[i, 0], rules[i, 2] - start), (thresholds[i, 1], rules[i, 3] - start)
        _window(tile, origin, length, low, high, vote, total)
    else:
        _largest(tile, origin, length, (thresholds[i, 0], rules[i, 2] - start), vote, total)


@compiled
def _add_agreeing(tile: Array, total: Array, length: int, post: float, agreed: Array) -> None:
    """Add post * tile to `agreed` where its sign is that of `total`; a total of 0 counts as positive."""
    for k in range(length):
        sign = np.float32(1) if total[k] >= 0 else np.float32(-1)
        agreed[k] += (np.float32(0) if tile[k] * sign <= 0 else tile[k]) * post


@compiled
def _count_agreeing(
    tile: Array, total: Array, length: int, post: float, weight: float, agreed: Array, weights: Array
) -> None:
    """Do what `_add_agreeing` does, and add up the weights of those that agree."""
    for k in range(length):
        sign = np.float32(1) if total[k] >= 0 else np.float32(-1)
        differs = tile[k] * sign <= 0
        agreed[k] += (np.float32(0) if differs else tile[k]) * post
        weights[k] += np.float32(0) if differs else weight


@compiled
def _elect(deltas: Array, total: Array, length: int, factors: Array, mean: bool, work: Array) -> None:
    """Replace `total`, the sum of the deltas, by the sum or mean of those whose sign agrees. work: (2, TILE)."""
    agreed, weights = work[0], work[1]
    for k in range(length):
        agreed[k] = 0
        weights[k] = 0
    for i in range(len(deltas)):
        if mean:
            _count_agreeing(deltas[i], total, length, factors[1, i], factors[2, i], agreed, weights)
        else:
            _add_agreeing(deltas[i], total, length, factors[1, i], agreed)
    if mean:
        for k in range(length):
            total[k] = agreed[k] / (np.float32(1) if weights[k] == 0 else weights[k])
    else:
        for k in range(length):
            total[k] = agreed[k]


@compiled
def _finish(total: Array, origin: Array, length: int, scales: Array) -> None:
    """Apply divisor, lambda, base and gain."""
    divisor, scale, gain = scales[0], scales[1], scales[2]
    if divisor == 1 and scale == 1 and gain == 1:
        for k in range(length):
            total[k] += origin[k]
    else:
        for k in range(length):
            total[k] = (total[k] / divisor * scale + origin[k]) * gain


@compiled
def sparse(
    base: int,
    base_kind: int,
    addresses: Array,
    kinds: Array,
    rules: Array,
    numbers: Array,
    thresholds: Array,
    factors: Array,
    flags: Array,
    scales: Array,
    out: int,
    out_kind: int,
    size: int,
) -> bool:
    """Write a sparse merge (`_sparse.Shares`); return whether it is finite.

    Args:
        rules: (n, 4) int64: what is kept, whether a second cut is dropped, where the ties of both end.
        numbers: (n, 3) int64: the two keys and the bound of random bits. thresholds: (n, 2) float32 of the cuts.
        factors: (3, n) float32: vote, post and weight of each model.
        flags: [elect, disjoint mean]. scales: (3,) float32: divisor, lambda, gain.
    """
    count = len(addresses)
    origin, total, bits = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    deltas, work = np.empty((count, TILE), np.float32), np.empty((2, TILE), np.float32)
    finite = True
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        load(base, base_kind, start, length, origin)
        for k in range(length):
            total[k] = 0
        for i in range(count):
            tile = deltas[i]
            load(addresses[i], kinds[i], start, length, tile)
            _thin(i, tile, origin, start, length, rules, numbers, thresholds, factors[0, i], bits, total)
        if flags[0]:
            _elect(deltas, total, length, factors, flags[1] != 0, work)
        _finish(total, origin, length, scales)
        finite &= store(out, out_kind, start, length, total)
    return finite
