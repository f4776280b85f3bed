"""A compiled sum of task vectors, for coefficients so large that adding up the tensors themselves would lose digits."""

import numpy as np

from evomerge.methods.kernels.cpu._memory import (
    TILE,
    Array,
    compiled,
    load,
    store,
)


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

    factors: (n,) float32. share: of the base itself.
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
