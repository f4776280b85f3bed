"""Whole merges on a GPU, one kernel launch each: which coefficients have a kernel, and how numbers reach it.

The kernels need Triton 3.3, which torch's builds for NVIDIA (from 2.7) bring along. Without it, or where a trial merge
fails, the torch code beside the methods runs instead, in large blocks. Both take the same steps in the same precision.
"""

import importlib
import math
import warnings
from typing import Any

import torch

from evomerge.methods.core import _linear_combination as _combination
from evomerge.methods.core import _random_mask as _random
from evomerge.methods.core._linear_combination import Combination
from evomerge.methods.core._method import Arithmetic, Block, Inputs
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms
from evomerge.methods.core._sparsify import Sparse
from evomerge.methods.statistics._selection import NOTHING, Cut

BLOCK = 1 << 10  # elements of one program: with 4 warps, a thread reads 16 bytes of bf16 from each input at once
DEVICES = ("cuda",)  # torch's name for AMD's as well
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_OPTIONS = {"BLOCK": BLOCK, "num_warps": 4, "enable_fp_fusion": False}
_ALL = Cut(0.0, (1 << 40) - 1)

_trials: dict[torch.device, Any] = {}


def merge(
    out: torch.Tensor, arithmetic: Arithmetic, inputs: Inputs, coefficients: Any, gain: float
) -> torch.Tensor | None:
    """Write a whole merge; return whether it is finite, 0-d bool and not waited for. None: there is no kernel for it.

    Args:
        coefficients: of `arithmetic`; those of linear combinations and of sparse merges, but for DELLA's, have kernels.
    """
    if not isinstance(coefficients, Combination | SparseTerms) or getattr(arithmetic, "by", None) == "ranked":
        return None
    tensors = [out, *inputs.models, *([] if inputs.base is None else [inputs.base])]
    if out.device.type not in DEVICES or not all(_fits(tensor, out.device) for tensor in tensors):
        return None
    if out.device not in _trials:
        _trials[out.device] = _load(out.device)
    code = _trials[out.device]
    return None if code is None else _launch(code, out, arithmetic, inputs, coefficients, gain)


def _fits(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device == device and tensor.dtype in _DTYPES and tensor.is_contiguous()


def _load(device: torch.device) -> Any:
    """Return the kernels if a trial shows that they work on this device, else None."""
    try:
        code = importlib.import_module("evomerge.methods.kernels.gpu._triton")
    except ImportError:  # no Triton for this platform
        return None
    try:
        trouble = None if _agrees(code, device) else "a trial merge differs from torch's"
    except Exception as error:  # a driver or compiler can be missing or too old in many ways
        trouble = f"{type(error).__name__}: {error}"
    if trouble is None:
        return code
    warnings.warn(f"merging on {device} runs in plain torch, which is slower: {trouble}", stacklevel=2)
    return None


def _agrees(code: Any, device: torch.device) -> bool:
    """Return whether two small merges are what torch makes of them."""
    base, one, two = (torch.arange(i, 3000 + i, device=device).sin().bfloat16() for i in range(3))
    inputs = Inputs(models=[one, two], base=base)
    block = Block(models=inputs.models, base=base, start=0, scratch=Scratch(base.numel(), torch.float32, device))
    ties = Sparse("random", elect=True)
    random = SparseTerm(0.3, 0.7, address=(0x9E3779B9, 1 << 31), below=1 << 23)
    shares = SparseTerms(((0, random), (1, SparseTerm(0.4, -0.3))), 0.9, 1.0, True)
    found, expected = torch.empty_like(base), torch.empty_like(base, dtype=torch.float32)
    trials: list[tuple[Any, Any]] = [(_combination.combine, Combination(0.3, (0.1, 0.7))), (ties.combine, shares)]
    same = True
    for combine, coefficients in trials:
        _launch(code, found, ties, inputs, coefficients, 1.1)
        combine(expected, block, coefficients)
        same &= torch.allclose(found.float(), expected.mul_(1.1), rtol=2**-7, atol=2**-9)
    return same


def _launch(
    code: Any, out: torch.Tensor, arithmetic: Any, inputs: Inputs, coefficients: Combination | SparseTerms, gain: float
) -> torch.Tensor:
    finite = torch.ones((), dtype=torch.int8, device=out.device)
    target, grid = (out, finite, out.numel()), (-(-out.numel() // BLOCK),)
    with torch.cuda.device_of(out):
        if isinstance(coefficients, SparseTerms) and coefficients.verbatim is None and coefficients.models:
            code.sparse[grid](*target, gain=float(gain), **_sparse(code, arithmetic, inputs, coefficients), **_OPTIONS)
        else:
            tensors, factors, differences = _terms(inputs, coefficients)
            numbers = {"tensors": tensors, "factors": factors, "DIFFERENCES": differences}
            if tensors:
                code.combine[grid](*target, gain=float(gain), **numbers, **_OPTIONS)
            else:
                out.zero_()
    return finite.view(torch.bool)


def _terms(
    inputs: Inputs, coefficients: Combination | SparseTerms
) -> tuple[tuple[torch.Tensor, ...], tuple[float, ...], bool]:
    """Return the tensors and factors of a linear combination, or of a sparse merge that is one of its inputs.

    Also returned: whether all but the first stand for their differences from the first.
    """
    if isinstance(coefficients, SparseTerms):
        only = inputs.base if coefficients.verbatim is None else inputs.models[coefficients.verbatim]
        assert only is not None
        return (only,), (1.0,), False
    terms = list(zip(inputs.models, map(float, coefficients.models), strict=True))
    differences = _combination.amplifies(inputs.base, coefficients)
    if inputs.base is not None:
        whole = math.fsum(coefficients.models) if differences else 0.0
        terms.insert(0, (inputs.base, coefficients.base + whole))
    terms = [(tensor, factor) for tensor, factor in terms if factor != 0 or differences]
    return tuple(tensor for tensor, _ in terms), tuple(factor for _, factor in terms), differences


def _sparse(code: Any, arithmetic: Any, inputs: Inputs, coefficients: SparseTerms) -> dict[str, Any]:
    """Return what the kernel `sparse` is told."""
    shares = [share for _, share in coefficients.models]
    divide = code.TOTAL if coefficients.divisor != 1 else code.UNDIVIDED
    return {
        "base": inputs.base,
        "models": tuple(inputs.models[model] for model, _ in coefficients.models),
        "numbers": tuple(_numbers(share, arithmetic.by) for share in shares),
        "votes": tuple(float(share.vote) for share in shares),
        "posts": tuple(float(share.post) for share in shares),
        "weights": tuple(float(share.weight) for share in shares),
        "divisor": float(coefficients.divisor),
        "scale": float(coefficients.scale),
        "WHAT": {"magnitude": code.CUT, "window": code.WINDOW, "random": code.RANDOM}[arithmetic.by],
        "ELECT": arithmetic.elect,
        "DIVIDE": code.DISJOINT if coefficients.disjoint_mean else divide,
    }


def _numbers(share: SparseTerm, by: str) -> tuple[float, ...]:
    """Return what a task vector keeps, as the kernel's `_kept` reads it; an unthinned one keeps all in each way."""
    if by == "random":
        first, second = share.address or (0, 0)
        return *_whole(first), *_whole(second), float(share.below if share.address else 1 << _random.BITS)
    keep, drop = share.keep or _ALL, share.drop or NOTHING
    cuts = (keep,) if by == "magnitude" else (keep, drop)
    return tuple(number for cut in cuts for number in (cut.threshold, *_whole(cut.tie_end)))


def _whole(number: int) -> tuple[float, float]:
    return float(number >> 16), float(number & 0xFFFF)
