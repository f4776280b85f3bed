"""When the compiled kernels run instead of torch, and how tensors reach them.

Both give the same bytes, so this is a matter of time alone: numba takes about a second to load (and some seconds to
compile, once for a machine), so a process starts to use it after it has merged a while.
"""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from evomerge.methods._gram import CHUNK
from evomerge.methods._selection import Cut

WARM_UP = 1 << 24  # elements that a process merges in torch before it loads numba: about a second's work
SAMPLE = 1 << 14  # elements that tell where a threshold is
BINS = 1 << 12  # of patterns, counted where a sample's bracket holds too much to collect
SPREAD = 5.0  # standard errors around the sample's quantile that are searched
_KINDS = {torch.bfloat16: 0, torch.float32: 1}

_worked = 0
_kernels: Any = None


def kernels(tensors: Sequence[torch.Tensor]) -> Any:
    """Return the kernels if these tensors can go to them and are worth it, else None."""
    global _worked, _kernels
    if not all(map(_fits, tensors)):
        return None
    if _kernels is None:
        _worked += sum(tensor.numel() for tensor in tensors)
        if _worked < WARM_UP:
            return None
        _kernels = _load() or False
    return _kernels or None


def _fits(tensor: torch.Tensor) -> bool:
    return tensor.dtype in _KINDS and tensor.is_cpu and tensor.is_contiguous()


def _load() -> Any:
    try:
        return importlib.import_module("evomerge.methods._kernels")
    except ImportError:  # numba supports new Pythons late; torch does the same work
        return None


def address(tensor: torch.Tensor) -> tuple[int, int]:
    """Return (address, kind) of a tensor's memory."""
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def addresses(tensors: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return the addresses and kinds of several tensors, (n,) int64 each."""
    pairs = np.array([address(tensor) for tensor in tensors], dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def gram(code: Any, models: Sequence[torch.Tensor], base: torch.Tensor | None) -> torch.Tensor:
    """Return what `_gram.gram` returns, in one compiled pass."""
    tensors = [*([] if base is None else [base]), *models]
    total = np.zeros((len(tensors), len(tensors)))
    code.gram(*addresses(tensors), base is not None, models[0].numel(), CHUNK, total)
    return torch.from_numpy(total + np.triu(total, 1).T)


class _Bracket(NamedTuple):
    """Patterns of |delta|, `low` to `high` inclusive, that hold the threshold.

    share: of the sample that is inside. above, inside: how many elements are; None = not counted, or missed.
    """

    low: int
    high: int
    share: float = 0.0
    above: int | None = None
    inside: int = 0


def select(code: Any, base: torch.Tensor, model: torch.Tensor, count: int) -> Cut | None:
    """Return the cut that keeps the `count` largest |model - base|, 1 <= count <= n; None if luck ran out.

    A sample brackets the threshold; one pass counts what is above the bracket and collects what is inside. Where the
    bracket holds a large part of the tensor, as with the few distinct deltas of a coarse dtype, a pass that counts
    by pattern narrows it first.
    """
    size, where = model.numel(), (*address(base), *address(model))
    room = size // 16 + SAMPLE
    found = _bracket(code, where, size, count)
    if found.low != found.high and 2 * found.share * size > room:
        found = _narrow(code, where, size, count, found)
    if found.above is None or found.low != found.high:
        found = _collect(code, where, size, count, found, room)
    if found.above is None or not found.above < count <= found.above + found.inside:
        return None
    ties = count - found.above
    end = size if ties == found.inside else int(code.nth_equal(*where, size, found.low, ties))
    return Cut(float(np.int32(found.low).view(np.float32)), end)


def _collect(code: Any, where: tuple[int, ...], size: int, count: int, bracket: _Bracket, room: int) -> _Bracket:
    """Return the pattern of the `count`-th largest, with its counts, if the bracket holds it and `room` that."""
    values = np.empty(0 if bracket.low == bracket.high else room, dtype=np.int32)
    above, inside = code.between(*where, size, bracket.low, bracket.high, values)
    if bracket.low == bracket.high:
        return bracket._replace(above=above, inside=inside)
    if not above < count <= above + inside or inside > room:
        return bracket._replace(above=None)
    rank = inside - (count - above)
    values = values[:inside]
    values.partition(rank)
    pattern = int(values[rank])
    return _Bracket(pattern, pattern, 0.0, above + int((values > pattern).sum()), int((values == pattern).sum()))


def _bracket(code: Any, where: tuple[int, ...], size: int, count: int) -> _Bracket:
    """Return the patterns between which a sample places the `count`-th largest; all is sampled if it is little."""
    bits = np.empty(min(size, SAMPLE), dtype=np.int32)
    code.sample(*where, size, bits)
    if len(bits) == size:
        bits.partition(size - count)
        return _Bracket(int(bits[size - count]), int(bits[size - count]), 0.0)
    middle = len(bits) * (1 - count / size)
    error = SPREAD * (count / size * (1 - count / size) * len(bits)) ** 0.5 + 2
    low, high = int(middle - error), int(middle + error)
    bits.sort()
    least = int(bits[low]) if low > 0 else 0
    most = int(bits[high]) if high < len(bits) - 1 else 0x7FFFFFFF
    return _Bracket(least, most, float(((bits >= least) & (bits <= most)).mean()))


def _narrow(code: Any, where: tuple[int, ...], size: int, count: int, bracket: _Bracket) -> _Bracket:
    """Return the patterns of the one bin, of at most BINS, that holds the `count`-th largest, with their counts."""
    shift = max(0, (bracket.high - bracket.low).bit_length() - BINS.bit_length() + 1)
    bins = np.zeros((BINS, 3), dtype=np.int64)
    bins[:, 1] = 0x7FFFFFFF
    above = code.spectrum(*where, size, bracket.low, bracket.high, shift, bins)
    down = above + bins[::-1, 0].cumsum()  # at least as large as each bin's smallest, from the last bin
    at = int(np.searchsorted(down, count))
    if above >= count or at == BINS:
        return bracket
    inside, low, high = (int(value) for value in bins[BINS - 1 - at])
    return _Bracket(low, high, 0.0, int(down[at]) - inside, inside)
