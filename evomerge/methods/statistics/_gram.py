"""Gram matrices: every inner product of a base and task vectors, in float64 and in one fixed order."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch

CHUNK_ELEMENTS = 1 << 20  # elements summed at a time, so that no block size or number of threads can change a sum
RUN = 512  # elements of a chunk summed first
DEVICE_CHUNKS = 16  # chunks worked on at a time on a GPU, each summed for itself

Axis = Literal["last", "first"]


def gram(models: Sequence[torch.Tensor], base: torch.Tensor | None) -> torch.Tensor:
    """Return the Gram matrix of flat tensors.

    Args:
        models: n or n - 1 tensors.
        base: the tensor that is taken from each model, or None.

    Returns:
        (n, n) float64 on CPU: the base first if there is one, then the models as task vectors.
    """
    count = len(models) + (base is not None)
    step = CHUNK_ELEMENTS * (1 if models[0].is_cpu else DEVICE_CHUNKS)
    pairs = [(i, j) for i in range(count) for j in range(i, count)]
    sums: list[list[torch.Tensor]] = [[] for _ in pairs]
    for start in range(0, models[0].numel(), step):
        rows = _rows([model[start : start + step] for model in models], base, slice(start, start + step))
        for (i, j), found in zip(pairs, sums, strict=True):
            found.append(_halve(rows[i] * rows[j]))
    total = torch.zeros(count, count, dtype=torch.float64)
    for (i, j), found in zip(pairs, sums, strict=True):
        for value in torch.cat(found).tolist() if found else ():
            total[i, j] += value
    return total + total.triu(1).T


def _halve(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of each CHUNK_ELEMENTS values by halves: in runs of RUN, then over the runs.

    The order is that of the compiled kernel, so that both give the same bits.
    """
    runs = -(-values.numel() // RUN)
    padded = _fill(values, runs * RUN).view(runs, RUN)
    for half in (RUN >> step for step in range(1, RUN.bit_length())):
        padded = padded[:, :half] + padded[:, half : 2 * half]
    chunks = -(-runs // (CHUNK_ELEMENTS // RUN))
    sums = _fill(padded[:, 0], chunks * (CHUNK_ELEMENTS // RUN)).view(chunks, -1)
    for half in (CHUNK_ELEMENTS // RUN >> step for step in range(1, (CHUNK_ELEMENTS // RUN).bit_length())):
        sums = sums[:, :half] + sums[:, half : 2 * half]
    return sums[:, 0]


def _fill(values: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, length - values.numel()))


def _rows(models: Sequence[torch.Tensor], base: torch.Tensor | None, where: slice) -> list[torch.Tensor]:
    rows = [model.double() for model in models]
    if base is None:
        return rows
    origin = base[where].double()
    return [origin, *(row - origin for row in rows)]


def fibers(shape: Sequence[int], axis: Axis) -> tuple[int, int]:
    """Return (groups, run): flat position p of a tensor of `shape` belongs to fiber (p // run) % groups.

    Args:
        shape: of the tensor. A vector is one fiber.
        axis: "last" = one fiber for each index but the last (the rows of a matrix), "first" = for each but the first
            (its columns).
    """
    size = _numel(shape)
    if len(shape) < 2:
        return 1, size
    if axis == "last":
        return size // shape[-1], shape[-1]
    return size // shape[0], 1


def fiber_gram(
    models: Sequence[torch.Tensor], base: torch.Tensor | None, shape: Sequence[int], axis: Axis
) -> torch.Tensor:
    """Return one Gram matrix for each fiber of `fibers(shape, axis)`.

    Args:
        models: flat tensors (see `gram`).
        base: the tensor that is taken from each model, or None.
        shape: of the tensors.
        axis: which fibers.

    Returns:
        (groups, n, n) float64.
    """
    groups, run = fibers(shape, axis)
    count = len(models) + (base is not None)
    total = torch.zeros(groups, count, count, dtype=torch.float64, device=models[0].device)
    for where, first, last in _pieces(_numel(shape), groups, run):
        rows = _rows([model[where] for model in models], base, where)
        # Contiguous fibers lie one below the other; strided ones (run 1) side by side.
        tables = [row.view(last - first, -1) if run > 1 else row.view(-1, groups).T for row in rows]
        for i, left in enumerate(tables):
            for j in range(i, count):
                total[first:last, i, j] += (left * tables[j]).sum(1)
    return total + total.triu(1).transpose(1, 2)


def _pieces(size: int, groups: int, run: int) -> Iterator[tuple[slice, int, int]]:
    """Yield (flat slice, first fiber, end fiber) of about CHUNK_ELEMENTS, whole fibers or whole strides."""
    if run > 1 or groups == size:
        rows = max(1, CHUNK_ELEMENTS // run)
        for first in range(0, groups, rows):
            last = min(groups, first + rows)
            yield slice(first * run, last * run), first, last
    else:
        step = groups * max(1, CHUNK_ELEMENTS // groups)
        for start in range(0, size, step):
            yield slice(start, min(size, start + step)), 0, groups


def _numel(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
