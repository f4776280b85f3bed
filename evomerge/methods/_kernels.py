"""Fused loops over memory, compiled by numba on first use: one pass from stored bytes to rounded bytes.

Tensors come as addresses with a kind (BF16 or FP32), so that one compiled function serves any number of inputs of
any mixture. Each element goes through the same float32 operations in the same order as in the torch code beside the
methods (no fused multiply-add, no reordering): results are equal bit for bit, which tests check.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

BF16, FP32 = 0, 1
TILE = 512  # elements worked on at a time: a tile of every input stays in the first-level cache
ALL, CUT, RANDOM = 0, 1, 2  # what a model's task vector keeps

Array = Any  # numpy arrays, which numba types by itself


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call, keeping the machine code on disk where the disk allows it."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # nowhere to write
        return njit(function)


@intrinsic
def _pointer16(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint16)(types.int64), code


@intrinsic
def _pointer32(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), code


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), code


@intrinsic
def _as_bits(typing: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), code


@_compile
def load(address: int, kind: int, start: int, length: int, tile: Array) -> None:
    """Read `length` elements from position `start` into `tile`, (TILE,) float32."""
    if kind == BF16:
        halves = carray(_pointer16(address + 2 * start), length)
        for k in range(length):
            tile[k] = _as_float(np.uint32(np.uint32(halves[k]) << np.uint32(16)))
    else:
        words = carray(_pointer32(address + 4 * start), length)
        for k in range(length):
            tile[k] = words[k]


@_compile
def store(address: int, kind: int, start: int, length: int, tile: Array) -> bool:
    """Round to nearest even and write; return whether everything written is finite."""
    bad = np.uint32(0)
    if kind == BF16:
        halves = carray(_pointer16(address + 2 * start), length)
        for k in range(length):
            bits = _as_bits(tile[k])
            upper = np.uint32(
                np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            )
            if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
                upper = np.uint32(0x7FC0)
            halves[k] = np.uint16(upper)
            bad |= np.uint32((upper & np.uint32(0x7F80)) == np.uint32(0x7F80))
    else:
        words = carray(_pointer32(address + 4 * start), length)
        for k in range(length):
            words[k] = tile[k]
            bad |= np.uint32((_as_bits(tile[k]) & np.uint32(0x7F800000)) == np.uint32(0x7F800000))
    return bad == 0


@_compile
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


@_compile
def _mix(x: Any) -> Any:
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@_compile
def uniform(first: int, second: int, start: int, length: int, bits: Array) -> None:
    """Write what `_random.uniform_bits` returns into `bits`, (TILE,) uint32; start is a multiple of TILE."""
    high = np.uint32((start >> 32) * 0x9E3779B9 + second)
    low = np.uint32(start & 0xFFFFFFFF)
    key = np.uint32(first)
    for k in range(length):
        x = _mix(np.uint32(np.uint32(low + np.uint32(k)) ^ key))
        bits[k] = np.uint32(_mix(np.uint32(x + high)) >> np.uint32(8))


# Tests for what to drop are written such that NaN is kept, as in the torch code.


@_compile
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


@_compile
def _drop_large(tile: Array, threshold: float, ties: bool, vote: float) -> None:
    """Set to 0 the deltas that `_keep_large` keeps, multiply the others by vote."""
    if ties:
        for k in range(len(tile)):
            tile[k] = (tile[k] if abs(tile[k]) < threshold else np.float32(0)) * vote
    else:
        for k in range(len(tile)):
            tile[k] = (tile[k] if abs(tile[k]) <= threshold else np.float32(0)) * vote


@_compile
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


@_compile
def _add(tile: Array, length: int, total: Array) -> None:
    for k in range(length):
        total[k] += tile[k]


@_compile
def _add_agreeing(tile: Array, sign: Array, length: int, post: float, total: Array) -> None:
    for k in range(length):
        total[k] += (np.float32(0) if tile[k] * sign[k] <= 0 else tile[k]) * post


@_compile
def _add_weights(tile: Array, sign: Array, length: int, weight: float, divisor: Array) -> None:
    for k in range(length):
        divisor[k] += np.float32(0) if tile[k] * sign[k] <= 0 else weight


@_compile
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


@_compile
def _finish(total: Array, origin: Array, length: int, scales: Array) -> None:
    """Apply divisor, lambda, base and gain."""
    divisor, scale, gain = scales[0], scales[1], scales[2]
    if divisor == 1 and scale == 1 and gain == 1:
        for k in range(length):
            total[k] += origin[k]
    else:
        for k in range(length):
            total[k] = (total[k] / divisor * scale + origin[k]) * gain


@_compile
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


@_compile
def _delta(
    base: int, base_kind: int, model: int, kind: int, start: int, length: int, tile: Array, origin: Array
) -> None:
    """Write a tile of a task vector into `tile`."""
    load(model, kind, start, length, tile)
    load(base, base_kind, start, length, origin)
    for k in range(length):
        tile[k] -= origin[k]


@_compile
def sample(base: int, base_kind: int, model: int, kind: int, size: int, bits: Array) -> None:
    """Write the patterns of |delta| at len(bits) positions, one in each of as many equal stretches, into `bits`."""
    tile, origin = np.empty(1, np.float32), np.empty(1, np.float32)
    count = len(bits)
    for i in range(count):
        low, high = i * size // count, (i + 1) * size // count
        # Any place in its stretch will do: a fixed one could fall in step with the rows of a matrix.
        position = low + np.int64(_mix(np.uint32(i))) % (high - low)
        _delta(base, base_kind, model, kind, position, 1, tile, origin)
        bits[i] = np.int32(_as_bits(tile[0]) & np.uint32(0x7FFFFFFF))


@_compile
def between(
    base: int, base_kind: int, model: int, kind: int, size: int, low: int, high: int, found: Array
) -> tuple[int, int]:
    """Count |delta| with patterns above `high`, and collect those from `low` to `high` into `found`.

    Returns:
        How many are above, and how many are inside: more than len(found) if they did not fit.
    """
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    patterns = np.empty(TILE, np.int32)
    first, last = np.int32(low), np.int32(high)
    above, inside, room = 0, 0, len(found)
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        _delta(base, base_kind, model, kind, start, length, tile, origin)
        larger: Any = np.int32(0)
        within: Any = np.int32(0)
        for k in range(length):
            pattern = np.int32(_as_bits(tile[k]) & np.uint32(0x7FFFFFFF))
            patterns[k] = pattern
            larger += np.int32(pattern > last)
            within += np.int32(pattern >= first)
        within -= larger
        above += larger
        if within and inside + within <= room:
            at = inside
            for k in range(length):
                if first <= patterns[k] <= last:
                    found[at] = patterns[k]
                    at += 1
        inside += within
    return above, inside


@_compile
def spectrum(
    base: int, base_kind: int, model: int, kind: int, size: int, low: int, high: int, shift: int, bins: Array
) -> int:
    """Count |delta| with patterns from `low` to `high` by (pattern - low) >> shift; return how many are above.

    bins: (n, 3) int64: how many, and the smallest and largest pattern of each bin.
    """
    tile, origin = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    above = 0
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        _delta(base, base_kind, model, kind, start, length, tile, origin)
        for k in range(length):
            pattern = np.int64(_as_bits(tile[k]) & np.uint32(0x7FFFFFFF))
            if pattern > high:
                above += 1
            elif pattern >= low:
                which = (pattern - low) >> shift
                bins[which, 0] += 1
                bins[which, 1] = min(bins[which, 1], pattern)
                bins[which, 2] = max(bins[which, 2], pattern)
    return above


@_compile
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
            here += np.int32((_as_bits(tile[k]) & np.uint32(0x7FFFFFFF)) == wanted)
        if seen + here > skip:
            for k in range(length):
                if (_as_bits(tile[k]) & np.uint32(0x7FFFFFFF)) == wanted:
                    if seen == skip:
                        return start + k
                    seen += 1
        seen += here
    return size


@_compile
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


@_compile
def _halve(values: Array, length: int) -> float:
    """Return the sum of `length` values, a power of 2, by adding the upper half to the lower until one is left."""
    half = length // 2
    while half:
        for k in range(half):
            values[k] += values[half + k]
        half //= 2
    return values[0]


@_compile
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
