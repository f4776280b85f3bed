"""The compiled sparse merge: every element of all models goes from stored bytes to one rounded result in registers.

What a merge does not need is left out when it is compiled, not tested for each element: each combination of flags that
are None and each number of models up to MODELS has its own version of the loops.
"""

from typing import Any

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    as_float,
    compiled,
    get16,
    get32,
    inlined,
    load,
    part,
    random_bits,
    store,
    tuple_at,
)

MODELS = 5  # of a group, whose numbers stay in registers; above 6, LLVM no longer unrolls the loop over them
SPAN = 2048  # elements between two writes

NONE = np.float32(0)


@inlined
def _group(like: Any, integers: int, reals: int, number: int) -> Any:
    """Return the numbers of a group of models as tuples (see `sparse`)."""
    whole, real = like
    first, second = 6 * number, 5 * number
    return (
        (tuple_at(whole, integers, first), tuple_at(whole, integers, first + 1), tuple_at(whole, integers, first + 2)),
        (
            tuple_at(whole, integers, first + 3),
            tuple_at(whole, integers, first + 4),
            tuple_at(whole, integers, first + 5),
        ),
        (tuple_at(real, reals, second), tuple_at(real, reals, second + 1), tuple_at(real, reals, second + 2)),
        (tuple_at(real, reals, second + 3), tuple_at(real, reals, second + 4)),
    )


@inlined
def _value(address: int, k: int, tiled: Any) -> float:
    """Return element k at an address: of bfloat16, or of a float32 tile."""
    if tiled is None:
        return as_float(np.uint32(np.uint32(get16(address, k)) << np.uint32(16)))
    return get32(address, k)


@inlined
def _inside(start: int, k: int, size: Any, threshold: Any, end: int) -> Any:
    """Return whether a cut has the element of that size at start + k."""
    threshold = np.float32(threshold)
    return (size > threshold) | ((size == threshold) & (np.int32(k) < np.int32(end - start)))


@inlined
def _kept(i: int, start: int, k: int, delta: float, group: Any, chance: Any, window: Any) -> bool:
    """Return whether a group's model i keeps the element at start + k."""
    (_, first, second), (keep_below, keep_end, drop_end), _, (keep, drop) = group
    if chance is not None:
        key = np.uint32(
            np.uint32(first[i]) ^ np.uint32(start)
        )  # start + k is start ^ k, as k is below any bit of start
        return random_bits(key, np.uint32(second[i]), np.uint32(k)) < np.uint32(keep_below[i])
    inside = _inside(start, k, abs(delta), keep[i], keep_end[i])
    if window is not None:
        inside &= not _inside(start, k, abs(delta), drop[i], drop_end[i])
    return inside


@inlined
def _add(sums: Any, start: int, k: int, origin: float, group: Any, flags: Any) -> Any:
    """Return `sums` plus what the models of a group give at start + k.

    Args:
        sums: of all signed contributions; of those > 0 and those < 0, after their factors; and of the weights of these
            two.
        start: first position of the tile.
        k: position in the tile.
        origin: the base's value there.
        group: addresses and numbers of up to MODELS models.
        flags: what the merge needs; None = no.
    """
    total, up, down, ups, downs = sums
    tiled, chance, window, elect, posted, mean = flags
    (addresses, _, _), _, (sign_weights, post_scales, weights), _ = group
    for i in range(len(addresses)):
        delta = _value(addresses[i] + (2 * start if tiled is None else 0), k, tiled) - origin
        # What is left out is multiplied by 0, not replaced by it, so that NaN and infinity come through.
        delta *= np.float32(sign_weights[i]) if _kept(i, start, k, delta, group, chance, window) else NONE
        total += delta
        if elect is not None:
            more, less = NONE if delta <= 0 else delta, NONE if delta >= 0 else delta
            post_scale, weight = np.float32(post_scales[i]), np.float32(weights[i])
            up += more if posted is None else more * post_scale
            down += less if posted is None else less * post_scale
            if mean is not None:
                ups += NONE if more == 0 else weight
                downs += NONE if less == 0 else weight
    return total, up, down, ups, downs


@inlined
def _result(sums: Any, origin: float, elect: Any, mean: Any, scales: Any) -> float:
    """Return an element of the merge: election, divisor, lambda, base and gain."""
    total, up, down, ups, downs = sums
    if elect is not None:
        positive = total >= 0
        total = up if positive else down
        if mean is not None:
            weight = ups if positive else downs
            total = total / (np.float32(1) if weight == 0 else weight)
    if scales is None:
        return total + origin
    return (total / np.float32(scales[0]) * np.float32(scales[1]) + origin) * np.float32(scales[2])


@part
def _at_once(start: int, length: int, base: int, group: Any, flags: Any, scales: Any, out: Array) -> None:
    """Write a stretch of a merge of one group of models."""
    tiled, _, _, elect, _, mean = flags
    for k in range(length):
        origin = _value(base, k, tiled)
        sums = _add((NONE, NONE, NONE, NONE, NONE), start, k, origin, group, flags)
        out[k] = _result(sums, origin, elect, mean, scales)


@part
def _begin(length: int, sums: Array) -> None:
    for row in range(len(sums)):
        for k in range(length):
            sums[row, k] = 0


@part
def _go_on(start: int, length: int, base: int, group: Any, flags: Any, sums: Array) -> None:
    """Add what a group of models gives to a stretch's sums, (5, SPAN) float32."""
    tiled = flags[0]
    total, up, down, ups, downs = sums[0], sums[1], sums[2], sums[3], sums[4]
    for k in range(length):
        so_far = (total[k], up[k], down[k], ups[k], downs[k])
        total[k], up[k], down[k], ups[k], downs[k] = _add(so_far, start, k, _value(base, k, tiled), group, flags)


@part
def _end(length: int, base: int, flags: Any, scales: Any, sums: Array, out: Array) -> None:
    """Write a stretch from its sums."""
    tiled, _, _, elect, _, mean = flags
    total, up, down, ups, downs = sums[0], sums[1], sums[2], sums[3], sums[4]
    for k in range(length):
        out[k] = _result((total[k], up[k], down[k], ups[k], downs[k]), _value(base, k, tiled), elect, mean, scales)


@compiled
def sparse(
    base: int,
    like: Any,
    integers: int,
    reals: int,
    groups: int,
    sources: Any,
    flags: Any,
    scales: Any,
    sums: Any,
    tile: Array,
    out: int,
    out_kind: int,
    size: int,
) -> bool:
    """Write a sparse merge (`_sparse_terms.SparseTerms`) of at most 2^30 elements; return whether it is finite.

    Args:
        base: address of bfloat16, or of a float32 tile where there are sources.
        like: a tuple of integers and one of reals, each as long as a group has models.
        integers: address of (groups, 6, models) int64: addresses as for base, two keys and a bound of random bits,
            where the ties of what is kept and of what is dropped end.
        reals: address of (groups, 5, models) float64: sign_weight, post_scale, weight; thresholds of what is kept and
            of what is dropped.
        groups: how many there are.
        sources: None, or (addresses, kinds, tiles (n, TILE)) of base and models, which are loaded there tile by tile.
        flags: True or None for: tiled, random choice, dropping, election, factors after it, mean of those elected.
        scales: (divisor, lambda, gain), or None where all are 1.
        sums: (5, SPAN) float32 of working memory, or None for one group.
        tile: (SPAN,) float32 of working memory.
        out: address of the result.
        out_kind: its dtype.
        size: elements of each.
    """
    finite = True
    step = SPAN if sources is None else TILE
    for start in range(0, size, step):
        length = size - start if size - start < step else step
        origin = base
        if sources is None:
            origin += 2 * start
        else:
            addresses, kinds, tiles = sources
            for i in range(len(addresses)):
                load(addresses[i], kinds[i], start, length, tiles[i])
        if sums is None:
            _at_once(start, length, origin, _group(like, integers, reals, 0), flags, scales, tile)
        else:
            _begin(length, sums)
            for g in range(groups):
                _go_on(start, length, origin, _group(like, integers, reals, g), flags, sums)
            _end(length, origin, flags, scales, sums, tile)
        finite &= store(out, out_kind, start, length, tile)
    return finite
