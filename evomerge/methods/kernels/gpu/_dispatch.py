"""Whole merges on a GPU, one kernel launch each: which coefficients have a kernel, and how numbers reach it.

The kernels need Triton 3.3, which torch's builds for NVIDIA (from 2.7) bring along. Without it, or where a trial merge
fails, the torch code beside the methods runs instead, in large blocks. Both take the same steps in the same precision.
"""

import importlib
import warnings
from typing import Any

import torch

from evomerge.methods.core import _combination, _sparse_terms
from evomerge.methods.core._combination import Combination
from evomerge.methods.core._random_mask import ONE
from evomerge.methods.core._records import Block, Inputs
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms
from evomerge.methods.statistics._selection import KEEP_NONE, Cut

PROGRAM_ELEMENTS = 1 << 10  # of one program: with 4 warps, a thread reads 16 bytes of bf16 from each input at once
DEVICES = ("cuda",)  # torch's name for AMD's as well
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_OPTIONS = {"BLOCK": PROGRAM_ELEMENTS, "num_warps": 4, "enable_fp_fusion": False}
_KEEP_ALL = Cut(0.0, (1 << 40) - 1)

_trials: dict[torch.device, Any] = {}


def combine(out: torch.Tensor, inputs: Inputs, coefficients: Combination, gain: float) -> torch.Tensor | None:
    """Write a linear combination (see `merge_into`).

    Returns:
        Whether it is finite, 0-d bool and not waited for; None = these tensors have no kernel.
    """
    code = _kernels(out, inputs)
    return None if code is None else _launch(code, out, inputs, coefficients, gain)


def sparse(out: torch.Tensor, inputs: Inputs, terms: SparseTerms, gain: float) -> torch.Tensor | None:
    """Write a sparse merge, which must not be by rank (see `combine`)."""
    code = _kernels(out, inputs)
    return None if code is None else _launch(code, out, inputs, terms, gain)


def loaded() -> bool:
    """Return whether this process merges with the kernels on some device."""
    return any(code is not None for code in _trials.values())


def _kernels(out: torch.Tensor, inputs: Inputs) -> Any:
    """Return the kernels if these tensors can go to them, else None."""
    tensors = [out, *inputs.models, *([] if inputs.base is None else [inputs.base])]
    if out.device.type not in DEVICES or not all(_fits(tensor, out.device) for tensor in tensors):
        return None
    if out.device not in _trials:
        _trials[out.device] = _load(out.device)
    return _trials[out.device]


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
    base, first, second = (torch.arange(i, 3000 + i, device=device).sin().bfloat16() for i in range(3))
    inputs = Inputs(models=[first, second], base=base)
    block = Block(models=inputs.models, base=base, start=0, scratch=Scratch(base.numel(), torch.float32, device))
    random = SparseTerm(0.3, 0.7, address=(0x9E3779B9, 1 << 31), keep_below=1 << 23)
    terms = SparseTerms(
        thinning="random",
        elect=True,
        models=((0, random), (1, SparseTerm(0.4, -0.3))),
        scale=0.9,
        disjoint_mean=True,
    )
    found, expected = torch.empty_like(base), torch.empty_like(base, dtype=torch.float32)
    trials: list[tuple[Any, Any]] = [
        (_combination.combine, Combination(0.3, (0.1, 0.7))),
        (_sparse_terms.combine, terms),
    ]
    same = True
    for in_torch, coefficients in trials:
        _launch(code, found, inputs, coefficients, 1.1)
        in_torch(expected, block, coefficients)
        same &= torch.allclose(found.float(), expected.mul_(1.1), rtol=2**-7, atol=2**-9)
    return same


def _launch(
    code: Any, out: torch.Tensor, inputs: Inputs, coefficients: Combination | SparseTerms, gain: float
) -> torch.Tensor:
    finite = torch.ones((), dtype=torch.int8, device=out.device)
    target, grid = (out, finite, out.numel()), (-(-out.numel() // PROGRAM_ELEMENTS),)
    with torch.cuda.device_of(out):
        if isinstance(coefficients, SparseTerms) and coefficients.verbatim is None and coefficients.models:
            code.sparse[grid](*target, gain=float(gain), **_sparse_numbers(code, inputs, coefficients), **_OPTIONS)
        else:
            tensors, factors, differences = _linear_numbers(inputs, coefficients)
            numbers = {"tensors": tensors, "factors": factors, "DIFFERENCES": differences}
            if tensors:
                code.combine[grid](*target, gain=float(gain), **numbers, **_OPTIONS)
            else:
                out.zero_()
    return finite.view(torch.bool)


def _linear_numbers(
    inputs: Inputs, coefficients: Combination | SparseTerms
) -> tuple[tuple[torch.Tensor, ...], tuple[float, ...], bool]:
    """Return what the kernel `combine` takes, also for a sparse merge that is one of its inputs.

    Returns:
        Tensors; their factors; whether all but the first stand for their differences from the first.
    """
    if isinstance(coefficients, SparseTerms):
        only = inputs.base if coefficients.verbatim is None else inputs.models[coefficients.verbatim]
        assert only is not None
        return (only,), (1.0,), False
    terms = list(zip(inputs.models, map(float, coefficients.models), strict=True))
    differences = _combination.amplifies(inputs.base, coefficients)
    if inputs.base is not None:
        factor = _combination.total_factor(coefficients) if differences else coefficients.base
        terms.insert(0, (inputs.base, factor))
    terms = [(tensor, factor) for tensor, factor in terms if factor != 0 or differences]
    return tuple(tensor for tensor, _ in terms), tuple(factor for _, factor in terms), differences


def _sparse_numbers(code: Any, inputs: Inputs, coefficients: SparseTerms) -> dict[str, Any]:
    """Return what the kernel `sparse` takes."""
    terms = [term for _, term in coefficients.models]
    divide = code.TOTAL if coefficients.divisor != 1 else code.UNDIVIDED
    kept = {"magnitude": code.CUT, "window": code.WINDOW, "random": code.RANDOM}
    return {
        "base": inputs.base,
        "models": tuple(inputs.models[model] for model, _ in coefficients.models),
        "numbers": tuple(_kept_numbers(term, coefficients.thinning) for term in terms),
        "sign_weights": tuple(float(term.sign_weight) for term in terms),
        "post_scales": tuple(float(term.post_scale) for term in terms),
        "weights": tuple(float(term.weight) for term in terms),
        "divisor": float(coefficients.divisor),
        "scale": float(coefficients.scale),
        "WHAT": kept[coefficients.thinning],
        "ELECT": coefficients.elect,
        "DIVIDE": code.DISJOINT if coefficients.disjoint_mean else divide,
    }


def _kept_numbers(term: SparseTerm, thinning: str) -> tuple[float, ...]:
    """Return what a task vector keeps, as the kernel's `_kept` reads it; an unthinned one keeps all in each way."""
    if thinning == "random":
        first, second = term.address or (0, 0)
        return *_halves(first), *_halves(second), float(term.keep_below if term.address else ONE)
    keep, drop = term.keep or _KEEP_ALL, term.drop or KEEP_NONE
    cuts = (keep,) if thinning == "magnitude" else (keep, drop)
    return tuple(number for cut in cuts for number in (cut.threshold, *_halves(cut.tie_end)))


def _halves(number: int) -> tuple[float, float]:
    """Return a whole number as two floats, which hold it exactly (see `_triton`)."""
    return float(number >> 16), float(number & 0xFFFF)
