"""How the terms of a sparse merge reach the compiled kernel (`_sparse.sparse`)."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import torch

from evomerge.methods.core._random_mask import ONE
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms
from evomerge.methods.kernels.cpu._dispatch import Kernels, address, addresses
from evomerge.methods.statistics._selection import KEEP_NONE, Cut

PIECE_ELEMENTS = 1 << 30  # of one call, which counts in 32 bits
EVERYTHING = Cut(-1.0, 0)  # no size is below 0
EMPTY_TERM = SparseTerm(0.0, 0.0)
_HIGH = 0x9E3779B9  # of `_random_mask.uniform_bits`
_BFLOAT16 = 0

_versions: set[tuple[tuple[Any, ...], tuple[bool, bool]]] = set()  # of the kernel, that this process has used


def sparse(
    code: Kernels,
    out: torch.Tensor,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    terms: SparseTerms,
    gain: float,
    *,
    inputs: int,
) -> bool:
    """Merge the models of `terms` (in that order) into `out`; return whether the result is finite.

    The compiled version depends on `inputs` and the method, not on the values: a weight of 0, which takes a model out
    of the terms, or a density of 1 must not compile another one in the middle of a search.

    Args:
        code: the kernels.
        out: the result's memory.
        base: the base.
        models: of the terms.
        terms: what they contribute.
        gain: factor on the result.
        inputs: number of models of the merge, those that contribute nothing included.
    """
    scales = (terms.divisor, terms.scale, gain)
    size = _group_size(inputs, code.models)
    finite = True
    for start in range(0, out.numel(), PIECE_ELEMENTS):
        tensors = [tensor.reshape(-1)[start : start + PIECE_ELEMENTS] for tensor in (base, *models)]
        (origin, *places), sources = _read(code, tensors)
        integers, reals = _numbers(size, places, origin, [term for _, term in terms.models], start)
        fixed = (terms.thinning == "random", terms.thinning == "window", terms.elect)
        posted, scaled = _version(
            (size, inputs == size, sources is not None, *fixed, terms.disjoint_mean),
            any(term.post_scale != 1 for _, term in terms.models),
            scales != (1, 1, 1),
        )
        flags = (sources is not None, *fixed, posted, terms.disjoint_mean)
        part = out.view(-1)[start : start + PIECE_ELEMENTS]
        finite &= code.sparse(
            origin,
            ((0,) * size, (0.0,) * size),
            integers.ctypes.data,
            reals.ctypes.data,
            len(integers),
            sources,
            tuple(True if flag else None for flag in flags),
            scales if scaled else None,
            None if inputs == size else np.empty((5, code.span), np.float32),
            np.empty(code.span, np.float32),
            *address(part),
            part.numel(),
        )
    return finite


def _read(code: Kernels, tensors: Sequence[torch.Tensor]) -> tuple[list[int], Any]:
    """Return where the kernel reads each tensor, and what it must first load there, if anything."""
    places, kinds = addresses(tensors)
    if not any(kinds != _BFLOAT16):
        return places.tolist(), None
    tiles = np.empty((len(tensors), code.tile), np.float32)
    return [tile.ctypes.data for tile in tiles], (places, kinds, tiles)


def _version(rest: tuple[Any, ...], posted: bool, scaled: bool) -> tuple[bool, bool]:
    """Return whether the kernel is to apply factors of 1 that it need not: where only such a version was used before.

    Args:
        rest: what else a version is compiled for.
        posted: whether some factor after the election is not 1.
        scaled: whether divisor, lambda or gain is not 1.
    """
    wanted = (posted, scaled)
    wider = [wanted, (True, scaled), (posted, True), (True, True)]
    chosen = next((version for version in wider if (rest, version) in _versions), wanted)
    _versions.add((rest, chosen))
    return chosen


def _group_size(inputs: int, most: int) -> int:
    """Return how many models a group has, so that the groups are as few and as equal as can be."""
    return ceil(inputs / ceil(inputs / most))


def _numbers(
    size: int, places: Sequence[int], base: int, terms: Sequence[SparseTerm], start: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel's integers and reals of all groups of `size` models, the last one filled up."""
    missing = -len(terms) % size
    terms = [*terms, *[EMPTY_TERM] * missing]
    integers = np.array([_integers(term, start) for term in terms], np.int64)
    integers[:, 0] = [*places, *[base] * missing]
    reals = np.array([_reals(term) for term in terms])
    in_groups = [array.reshape(-1, size, array.shape[1]).transpose(0, 2, 1) for array in (integers, reals)]
    return np.ascontiguousarray(in_groups[0]), np.ascontiguousarray(in_groups[1])


def _integers(term: SparseTerm, start: int) -> tuple[int, ...]:
    """Return memory for an address, keys and bound of the random bits, and ends of ties, counted from `start`."""
    first, second = term.address or (0, 0)
    ends = (min(max((cut or EVERYTHING).tie_end - start, 0), PIECE_ELEMENTS) for cut in (term.keep, term.drop))
    return (
        0,
        first ^ (start & 0xFFFFFFFF),  # a piece starts at a multiple of its size
        (second + (start >> 32) * _HIGH) & 0xFFFFFFFF,
        term.keep_below if term.address else ONE,  # a model that is not thinned keeps all
        *ends,
    )


def _reals(term: SparseTerm) -> tuple[float, ...]:
    """Return factors and thresholds."""
    keep, drop = term.keep or EVERYTHING, term.drop or KEEP_NONE
    return term.sign_weight, term.post_scale, term.weight, keep.threshold, drop.threshold
