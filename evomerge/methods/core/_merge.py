"""Run a method over cache-sized blocks: the one place where tensors are read and results are rounded."""

import math
from typing import Any

import torch

from evomerge.methods.core._method import Method
from evomerge.methods.core._records import Block, Inputs, Settings
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.kernels.cpu import _dispatch as cpu
from evomerge.methods.kernels.gpu import _dispatch as gpu
from evomerge.methods.statistics import Statistics

BLOCK_ELEMENTS = 1 << 16  # elements: the working set of a four-input merge stays inside a second-level cache
DEVICE_BLOCK_ELEMENTS = 1 << 24  # elements on a GPU, where every step is a kernel launch of some microseconds


def working_dtype(inputs: Inputs) -> torch.dtype:
    """Return the precision that arithmetic runs in: float64 if any input is float64, else float32."""
    tensors = [*inputs.models, *([] if inputs.base is None else [inputs.base])]
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def block_size(device: torch.device) -> int:
    """Return how many elements to work on at a time on this device."""
    return BLOCK_ELEMENTS if device.type == "cpu" else DEVICE_BLOCK_ELEMENTS


def merge_into(
    out: torch.Tensor,
    method: Method,
    inputs: Inputs,
    settings: Settings,
    *,
    statistics: Statistics | None = None,
    gain: float = 1.0,
    block: int | None = None,
    scratch: Scratch | None = None,
) -> bool | torch.Tensor:
    """Write the merge of `inputs` into `out`, rounded once; return whether every element is finite.

    On a GPU this is a 0-d bool tensor: nothing waits for the device here, so that the next tensor's work can be sent.

    Args:
        out: contiguous, of the inputs' shape and any floating dtype.
        method: the arithmetic.
        inputs: the tensors, which stay as they are.
        settings: values of the method's parameters.
        statistics: what is already known of these inputs; computed here otherwise.
        gain: factor on the result, before rounding.
        block: elements worked on at a time, `block_size(out.device)` by default; changes no result.
        scratch: buffers to reuse; of `block` elements and `working_dtype(inputs)`.

    Raises:
        MergeFailed: the settings have no meaning for these inputs (weights that sum to 0).
    """
    if out.numel() == 0:
        return True
    statistics = statistics or Statistics(inputs.models, inputs.base)
    try:
        coefficients = method.coefficients(inputs, settings, statistics)
    except (ArithmeticError, ValueError):
        if _squares_are_finite(inputs):
            raise
        out.fill_(math.nan)  # no coefficients: not of infinity or NaN, nor of lengths beyond float64
        return False
    done = method.merge_compiled(out, inputs, coefficients, gain)
    if done is not None:
        return done
    return merge_blocks(
        out, method, inputs, coefficients, gain=gain, block=block or block_size(out.device), scratch=scratch
    )


def _squares_are_finite(inputs: Inputs) -> bool:
    """Return whether every input's sum of squares is finite in float64, and so every statistic."""
    tensors = [*inputs.models, *([] if inputs.base is None else [inputs.base])]
    return all(bool(tensor.double().square_().sum().isfinite()) for tensor in tensors)


def merge_blocks(
    out: torch.Tensor,
    method: Method,
    inputs: Inputs,
    coefficients: Any,
    *,
    gain: float = 1.0,
    block: int = BLOCK_ELEMENTS,
    scratch: Scratch | None = None,
) -> bool | torch.Tensor:
    """Do the work of `merge_into` in torch, block by block, with coefficients of `method`."""
    scratch = scratch or Scratch(block, working_dtype(inputs), out.device)
    flat = out.view(-1)
    models = [model.reshape(-1) for model in inputs.models]
    base = None if inputs.base is None else inputs.base.reshape(-1)
    unit = method.unit(inputs)
    step = unit * max(1, block // unit)
    finite: bool | torch.Tensor = True
    for start in range(0, flat.numel(), step):
        end = min(start + step, flat.numel())
        result = scratch.buffer("result", end - start)
        piece = Block(
            models=[model[start:end] for model in models],
            base=None if base is None else base[start:end],
            start=start,
            scratch=scratch,
        )
        method.combine(result, piece, coefficients)
        if gain != 1:
            result.mul_(gain)
        target = flat[start:end].copy_(result)
        # A sum is non-finite exactly when an element is: 2^24 finite bf16 or fp32 values cannot overflow float64.
        total = target.sum(dtype=torch.float64)
        finite &= math.isfinite(total.item()) if out.is_cpu else torch.isfinite(total)
    return finite


def kernels_loaded(device: torch.device) -> str:
    """Return what merges on a device in this process so far: "numba", "triton" or "torch"."""
    if device.type == "cpu":
        return "numba" if cpu.loaded() else "torch"
    return "triton" if gpu.loaded() else "torch"
