"""The compiled linear combination, from stored bytes to rounded bytes in one pass."""

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
