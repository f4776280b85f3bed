"""Inner products of one tensor, a gradient, with task vectors, in one pass over the memory of all of them."""

from collections.abc import Sequence

import torch

RUN = 512  # products side by side, a tile of the compiled kernel
ROWS = 64  # runs that are added up in float32, one after the other
_STEP = {"cpu": 16 * ROWS * RUN}  # elements worked on at a time
_STEP_DEVICE = 256 * ROWS * RUN


def inner_products(
    gradient: torch.Tensor, models: Sequence[torch.Tensor], base: torch.Tensor | None
) -> tuple[list[float], float]:
    """Return <gradient, model - base> for each model, and <gradient, base>.

    Products and sums of a chunk (ROWS runs) are float32, the sum of the chunks is float64. The order is that of the
    compiled kernel, so that both give the same bits on a CPU.

    Args:
        gradient: (n,), any floating dtype.
        models: (n,) each.
        base: (n,); None = the products with the models themselves, and 0.
    """
    step = _STEP.get(gradient.device.type, _STEP_DEVICE)
    sums: list[list[torch.Tensor]] = [[] for _ in range(len(models) + 1)]
    for start in range(0, gradient.numel(), step):
        where = slice(start, start + step)
        weight = gradient[where].float()
        origin = None if base is None else base[where].float()
        for model, found in zip(models, sums, strict=False):
            values = model[where].float()
            found.append(_chunk_sums((values if origin is None else values - origin) * weight))
        if origin is not None:
            sums[-1].append(_chunk_sums(origin * weight))
    totals = [sum(torch.cat(found).tolist()) if found else 0.0 for found in sums]
    return totals[:-1], totals[-1]


def _chunk_sums(products: torch.Tensor) -> torch.Tensor:
    """Return the sum of each chunk as float64: run by run, then its upper half added to its lower until one is left.

    On other devices, where that would be many small steps, the sum of all chunks.
    """
    if not products.is_cpu:
        return products.sum(dtype=torch.float64)[None]
    chunks = -(-products.numel() // (ROWS * RUN))
    rows = torch.nn.functional.pad(products, (0, chunks * ROWS * RUN - products.numel())).view(chunks, ROWS, RUN)
    total = rows[:, 0].clone()
    for row in range(1, ROWS):
        total += rows[:, row]
    half = RUN // 2
    while half:
        total = total[:, :half] + total[:, half : 2 * half]
        half //= 2
    return total[:, 0].double()
