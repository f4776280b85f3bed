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


# Tests for what to drop are written such that NaN is kept, as in the torch code.


@compiled
def _keep_large(tile: Array, origin: Array, threshold: float, ties: bool, vote: float) -> None:
    """Turn model - base into vote * delta where |delta| > threshold (or equal, with `ties`), else 0."""
    if ties:
        for k in range(len(tile)):
            delta = tile[k] - origin[k]
            tile[k] = (np.float32(0) if abs(delta) < threshold else delta) * vote
    else:
        for k in range(len(tile)):
            delta = tile[k] - origin[k]
            tile[k] = (np.float32(0) if abs(delta) <= threshold else delta) * vote


@compiled
def _drop_large(tile: Array, threshold: float, ties: bool, vote: float) -> None:
    """Set to 0 the deltas that `_keep_large` keeps, multiply the others by vote."""
    if ties:
        for k in range(len(tile)):
            tile[k] = (tile[k] if abs(tile[k]) < threshold else np.float32(0)) * vote
    else:
        for k in range(len(tile)):
            tile[k] = (tile[k] if abs(tile[k]) <= threshold else np.float32(0)) * vote


@compiled
def _thin(
    tile: Array,
    origin: Array,
    bits: Array,
    start: int,
    length: int,
    rule: Array,
    numbers: Array,
    thresholds: Array,
    vote: float,
) -> None:
    """Turn one tile of a model into its thinned task vector times `vote`.

    rule: [what, drop as well, end of kept ties, end of dropped ties]. numbers: [first key, second key, below].
    """
    if rule[0] == CUT:
        first = np.float32(1) if rule[1] else vote
        split = min(max(rule[2] - start, 0), length)
        _keep_large(tile[:split], origin[:split], thresholds[0], True, first)
        _keep_large(tile[split:length], origin[split:length], thresholds[0], False, first)
        if rule[1]:
            split = min(max(rule[3] - start, 0), length)
            _drop_large(tile[:split], thresholds[1], True, vote)
            _drop_large(tile[split:length], thresholds[1], False, vote)
    elif rule[0] == RANDOM:
        uniform(numbers[0], numbers[1], start, length, bits)
        below = np.uint32(numbers[2])
        for k in range(length):
            tile[k] = (tile[k] - origin[k] if bits[k] < below else np.float32(0)) * vote
    else:
        for k in range(length):
            tile[k] = (tile[k] - origin[k]) * vote


@compiled
def _add(tile: Array, length: int, total: Array) -> None:
    for k in range(length):
        total[k] += tile[k]


@compiled
def _add_agreeing(tile: Array, sign: Array, length: int, post: float, total: Array) -> None:
    for k in range(length):
        total[k] += (np.float32(0) if tile[k] * sign[k] <= 0 else tile[k]) * post


@compiled
def _add_weights(tile: Array, sign: Array, length: int, weight: float, divisor: Array) -> None:
    for k in range(length):
        divisor[k] += np.float32(0) if tile[k] * sign[k] <= 0 else weight


@compiled
def _elect(deltas: Array, length: int, posts: Array, weights: Array, mean: bool, total: Array, work: Array) -> None:
    """Sum the deltas whose sign agrees with the sign of their sum into `total`, which is 0. work: (2, TILE)."""
    sign, divisor = work[0], work[1]
    for k in range(length):
        sign[k] = 0
        divisor[k] = 0
    for i in range(len(deltas)):
        _add(deltas[i], length, sign)
    for k in range(length):
        sign[k] = np.float32(1) if sign[k] >= 0 else np.float32(-1)
    for i in range(len(deltas)):
        _add_agreeing(deltas[i], sign, length, posts[i], total)
        if mean:
            _add_weights(deltas[i], sign, length, weights[i], divisor)
    if mean:
        for k in range(length):
            total[k] /= np.float32(1) if divisor[k] == 0 else divisor[k]


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
        rules: (n, 4) int64, numbers: (n, 3) int64, thresholds: (n, 2) float32: see `_thin`.
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
        for i in range(count):
            load(addresses[i], kinds[i], start, length, deltas[i])
            _thin(deltas[i], origin, bits, start, length, rules[i], numbers[i], thresholds[i], factors[0, i])
        for k in range(length):
            total[k] = 0
        if flags[0]:
            _elect(deltas, length, factors[1], factors[2], flags[1] != 0, total, work)
        else:
            for i in range(count):
                _add(deltas[i], length, total)
        _finish(total, origin, length, scales)
        finite &= store(out, out_kind, start, length, total)
    return finite
