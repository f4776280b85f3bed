"""How the shares of a sparse merge reach the compiled kernel (`_kernels_sparse.sparse`)."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import torch

from evomerge.methods.core import _random_mask as _random
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms
from evomerge.methods.kernels.cpu import _dispatch as _fused
from evomerge.methods.statistics._selection import NOTHING, Cut

PIECE = 1 << 30  # elements of one call, which counts in 32 bits
EVERYTHING = Cut(-1.0, 0)  # no size is below 0
NOBODY = SparseTerm(0.0, 0.0)
_HIGH = 0x9E3779B9  # of `_random.uniform_bits`
_BFLOAT16 = 0


def sparse(
    code: Any,
    out: torch.Tensor,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    shares: SparseTerms,
    elect: bool,
    gain: float,
) -> bool:
    """Merge the models of `shares` (in that order) into `out`; return whether the result is finite."""
    scales = (shares.divisor, shares.scale, gain)
    finite = True
    for start in range(0, out.numel(), PIECE):
        tensors = [tensor.reshape(-1)[start : start + PIECE] for tensor in (base, *models)]
        (origin, *places), sources = _read(code, tensors)
        size, integers, reals = _numbers(code.MODELS, places, origin, [share for _, share in shares.models], start)
        flags = (
            sources is not None,
            any(share.address is not None for _, share in shares.models),
            any(share.drop is not None for _, share in shares.models),
            elect,
            any(share.post != 1 for _, share in shares.models),
            shares.disjoint_mean,
        )
        part = out.view(-1)[start : start + PIECE]
        finite &= code.sparse(
            origin,
            ((0,) * size, (0.0,) * size),
            integers,
            reals,
            sources,
            tuple(True if flag else None for flag in flags),
            None if scales == (1, 1, 1) else scales,
            None if len(integers) == 1 else np.empty((5, code.SPAN), np.float32),
            *_fused.address(part),
            part.numel(),
        )
    return finite


def _read(code: Any, tensors: Sequence[torch.Tensor]) -> tuple[list[int], Any]:
    """Return where the kernel reads each tensor, and what it must first load there, if anything."""
    addresses, kinds = _fused.addresses(tensors)
    if not any(kinds != _BFLOAT16):
        return addresses.tolist(), None
    tiles = np.empty((len(tensors), code.TILE), np.float32)
    return [tile.ctypes.data for tile in tiles], (addresses, kinds, tiles)


def _numbers(
    most: int, places: Sequence[int], base: int, shares: Sequence[SparseTerm], start: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many models a group has, and the kernel's integers and reals of all groups, the last one filled up."""
    size = ceil(len(shares) / ceil(len(shares) / most))
    missing = -len(shares) % size
    shares = [*shares, *[NOBODY] * missing]
    integers = np.array([_integers(share, start) for share in shares], np.int64)
    integers[:, 0] = [*places, *[base] * missing]
    reals = np.array([_reals(share) for share in shares])
    in_groups = [array.reshape(-1, size, array.shape[1]).transpose(0, 2, 1) for array in (integers, reals)]
    return size, np.ascontiguousarray(in_groups[0]), np.ascontiguousarray(in_groups[1])


def _integers(share: SparseTerm, start: int) -> tuple[int, ...]:
    """Return room for an address, keys and bound of the random bits, and ends of ties, counted from `start`."""
    first, second = share.address or (0, 0)
    ends = (min(max((cut or EVERYTHING).tie_end - start, 0), PIECE) for cut in (share.keep, share.drop))
    return (
        0,
        first ^ (start & 0xFFFFFFFF),  # a piece starts at a multiple of its size
        (second + (start >> 32) * _HIGH) & 0xFFFFFFFF,
        share.below if share.address else 1 << _random.BITS,  # a model that is not thinned keeps all
        *ends,
    )


def _reals(share: SparseTerm) -> tuple[float, ...]:
    """Return factors and thresholds."""
    keep, drop = share.keep or EVERYTHING, share.drop or NOTHING
    return share.vote, share.post, share.weight, keep.threshold, drop.threshold
