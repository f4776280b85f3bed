"""The compiled linear combinations, of tensors or of task vectors, from stored bytes to rounded bytes in one pass."""

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    compiled,
    load,
    store,
)


@compiled
def combine(addresses: Array, kinds: Array, factors: Array, out: int, out_kind: int, size: int, gain: float) -> bool:
    """Write gain * sum(factors[i] x_i); return whether it is finite.

    Args:
        addresses: (n,) int64, n >= 1, of the tensors.
        kinds: (n,) int64, their dtypes.
        factors: (n,) float32.
        out: address of the result.
        out_kind: its dtype.
        size: elements of each.
        gain: factor on the sum.
    """
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


@compiled
def differences(
    base: int,
    base_kind: int,
    addresses: Array,
    kinds: Array,
    share: float,
    factors: Array,
    out: int,
    out_kind: int,
    size: int,
    gain: float,
) -> bool:
    """Write gain * (share * base + sum(factors[i] (x_i - base))); return whether it is finite.

    For coefficients so large that adding up the tensors themselves would lose digits.

    Args:
        base: address of the base.
        base_kind: its dtype.
        addresses: (n,) int64, of the models.
        kinds: (n,) int64, their dtypes.
        share: factor on the base itself.
        factors: (n,) float32, on the task vectors.
        out: address of the result.
        out_kind: its dtype.
        size: elements of each.
        gain: factor on the sum.
    """
    tile, origin, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    finite, whole, scale = True, np.float32(share), np.float32(gain)
    for start in range(0, size, TILE):
        length = min(TILE, size - start)
        load(base, base_kind, start, length, origin)
        for k in range(length):
            total[k] = origin[k] * whole
        for i in range(len(addresses)):
            load(addresses[i], kinds[i], start, length, tile)
            factor = factors[i]
            for k in range(length):
                total[k] += (tile[k] - origin[k]) * factor
        if gain != 1:
            for k in range(length):
                total[k] *= scale
        finite &= store(out, out_kind, start, length, total)
    return finite
