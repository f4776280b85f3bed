"""When the compiled kernels run instead of torch, and how tensors reach them.

Both give the same bytes, so this is a matter of time alone: numba takes about a second to load (and some seconds to
compile, once for a machine), so a process starts to use it after it has merged a while.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from evomerge.methods.kernels.cpu import _threshold_search
from evomerge.methods.statistics import _inner_products
from evomerge.methods.statistics._gram import CHUNK_ELEMENTS
from evomerge.methods.statistics._selection import Cut

WARM_UP_ELEMENTS = 1 << 24  # that a process merges in torch before it loads numba: about a second's work
_KINDS = {torch.bfloat16: 0, torch.float32: 1, torch.float16: 2}

_Compiled = Callable[..., Any]


class Kernels(NamedTuple):
    """The compiled functions (see the files beside this one) and the sizes that their callers need."""

    combine: _Compiled
    differences: _Compiled
    sparse: _Compiled
    gram: _Compiled
    inner: _Compiled
    table: _Compiled
    scan: _Compiled
    masked_sums: _Compiled
    tile: int
    span: int
    group: int
    models: int


Use = Literal["auto", "always", "never"]

_use: Use = "auto"
_merged_elements = 0
_kernels: Kernels | Literal[False] | None = None  # None = not loaded yet, False = there are none


def kernels(tensors: Sequence[torch.Tensor]) -> Kernels | None:
    """Return the kernels if these tensors can go to them and are worth it, else None."""
    global _merged_elements, _kernels
    if _use == "never" or not all(map(_fits, tensors)):
        return None
    if _kernels is None:
        _merged_elements += sum(tensor.numel() for tensor in tensors)
        if _use == "auto" and _merged_elements < WARM_UP_ELEMENTS:
            return None
        _kernels = load() or False
    return _kernels or None


@contextmanager
def use_kernels(use: Use) -> Iterator[None]:
    """Merge on CPU with compiled kernels always, never, or ("auto") once they are worth loading, in this process.

    Results are the same bytes; this is for tests and benchmarks.
    """
    global _use
    before, _use = _use, use
    try:
        yield
    finally:
        _use = before


def loaded() -> bool:
    """Return whether this process has loaded the kernels."""
    return bool(_kernels)


def _fits(tensor: torch.Tensor) -> bool:
    return tensor.dtype in _KINDS and tensor.is_cpu and tensor.is_contiguous()


def load() -> Kernels | None:
    """Import the kernels; None where numba is not installed (it supports new Pythons late): torch does the same."""
    try:
        from evomerge.methods.kernels.cpu import _combine, _density_table, _inner, _memory, _sparse, _statistics
    except ImportError:
        return None
    return Kernels(
        combine=_combine.combine,
        differences=_combine.differences,
        sparse=_sparse.sparse,
        gram=_statistics.gram,
        inner=_inner.inner,
        table=_density_table.table,
        scan=_statistics.scan,
        masked_sums=_statistics.masked_sums,
        tile=_memory.TILE,
        span=_sparse.SPAN,
        group=_statistics.GROUP,
        models=_sparse.MODELS,
    )


def address(tensor: torch.Tensor) -> tuple[int, int]:
    """Return (address, kind) of a tensor's memory."""
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def addresses(tensors: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the addresses and kinds of several tensors, (n,) int64 each."""
    pairs = np.array([address(tensor) for tensor in tensors], dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def gram(code: Kernels, models: Sequence[torch.Tensor], base: torch.Tensor | None) -> torch.Tensor:
    """Return what `_gram.gram` returns, in one compiled pass."""
    tensors = [*([] if base is None else [base]), *models]
    total = np.zeros((len(tensors), len(tensors)))
    code.gram(*addresses(tensors), base is not None, models[0].numel(), CHUNK_ELEMENTS, total)
    return torch.from_numpy(total + np.triu(total, 1).T)


def inner_products(
    gradient: torch.Tensor, models: Sequence[torch.Tensor], base: torch.Tensor | None
) -> tuple[list[float], float]:
    """Return what `_inner_products.inner_products` returns, in one compiled pass where that is worth it."""
    tensors = [*([] if base is None else [base]), *models]
    code = kernels([gradient, *tensors])
    if code is None:
        return _inner_products.inner_products(gradient, models, base)
    found = np.zeros(len(tensors))
    based = base is not None
    code.inner(*address(gradient), *addresses(tensors), based, gradient.numel(), _inner_products.ROWS, found)
    totals = found.tolist()
    return (totals[1:], totals[0]) if based else (totals, 0.0)


def select(code: Kernels, base: torch.Tensor, model: torch.Tensor, count: int) -> Cut:
    """Return the cut that keeps the `count` largest |model - base|, 0 <= count <= n."""
    return _threshold_search.select(_deltas(code, base, model), count)


def nth_equal(code: Kernels, base: torch.Tensor, model: torch.Tensor, size: float, skip: int) -> int:
    """Return the position of the first |model - base| of that size after `skip` others; n if there is none."""
    return _threshold_search.nth_equal(_deltas(code, base, model), int(np.float32(size).view(np.int32)), skip)


def _deltas(code: Kernels, base: torch.Tensor, model: torch.Tensor) -> _threshold_search.Deltas:
    where = np.array([*address(base), *address(model)], np.int64)
    return _threshold_search.Deltas(code, where, base, model)


def table(code: Kernels, base: torch.Tensor, model: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Return the cuts that keep the `counts` (1 to n, ascending) largest |model - base|, in three compiled passes.

    Returns:
        (4, len(counts)) float64: threshold, how many equal to it are kept, L1 norm, where the first equal one lies that
        is not kept (n if there is none).
    """
    found, ends = np.empty((len(counts), 3)), np.empty(len(counts), np.int64)
    code.table(*address(base), *address(model), model.numel(), np.array(counts, np.int64), found, ends)
    found[:, 0] = found[:, 0].astype(np.int32).view(np.float32)
    return torch.from_numpy(np.vstack([found.T, ends]))
