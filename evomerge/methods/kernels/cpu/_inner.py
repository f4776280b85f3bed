"""The compiled inner products of a gradient with task vectors: every tensor's memory is read once."""

import numpy as np

from evomerge.methods.kernels.cpu._memory import TILE, Array, compiled, load, part


@part
def _sum(values: Array) -> float:
    """Return the sum of a tile by halves, as `_inner_products._halve` takes it; the tile is overwritten."""
    half = len(values) // 2
    while half:
        low, high = values[:half], values[half : 2 * half]  # or the loop would not be made of vector instructions
        for k in range(half):
            low[k] += high[k]
        half //= 2
    return np.float64(values[0])


@part
def _add_products(tile: Array, weight: Array, total: Array) -> None:
    for k in range(TILE):
        total[k] += tile[k] * weight[k]


@part
def _add_task_vector(tile: Array, origin: Array, weight: Array, total: Array) -> None:
    for k in range(TILE):
        total[k] += (tile[k] - origin[k]) * weight[k]


@compiled
def inner(
    gradient: int, kind: int, addresses: Array, kinds: Array, based: bool, size: int, rows: int, found: Array
) -> None:
    """Write what `inner_products` returns.

    Args:
        gradient: its address.
        kind: its dtype.
        addresses: (n,) int64, of the base if it is `based`, then the models.
        kinds: (n,) int64, their dtypes.
        based: whether the models are taken as task vectors.
        size: elements of each.
        rows: tiles whose products are summed in float32.
        found: (n,) float64 zeros, added to, in the order of the addresses.
    """
    count = len(addresses)
    weight, origin, tile = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
    totals = np.zeros((count, TILE), np.float32)
    for chunk in range(0, size, rows * TILE):
        for start in range(chunk, min(chunk + rows * TILE, size), TILE):
            length = min(TILE, size - start)
            load(gradient, kind, start, length, weight)
            weight[length:] = 0
            for i in range(count):
                if based and i == 0:
                    load(addresses[0], kinds[0], start, length, origin)
                    _add_products(origin, weight, totals[0])
                    continue
                load(addresses[i], kinds[i], start, length, tile)
                if based:
                    _add_task_vector(tile, origin, weight, totals[i])
                else:
                    _add_products(tile, weight, totals[i])
        for i in range(count):
            found[i] += _sum(totals[i])
            totals[i, :] = 0
