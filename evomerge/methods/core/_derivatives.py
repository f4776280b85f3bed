"""Derivatives of a scalar by a merge's parameters, from its gradient by the merged tensor.

For a linear combination W = sum(c_k x_k) the chain rule needs the inner products <G, x_k> alone: they are taken block
by block against task vectors, and the derivatives of the few coefficients are central differences. For other methods W
itself is differenced, in float32, with masks and thresholds as they are: random masks depend on the seed, thresholds on
densities, and the few elements whose elected sign changes within the step jump, and are left out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from evomerge.errors import MergeFailed
from evomerge.methods.core._combination import Combination
from evomerge.methods.core._linear_combination import LinearCombination
from evomerge.methods.core._merge import BLOCK_ELEMENTS, merge_into
from evomerge.methods.core._method import Method
from evomerge.methods.core._records import Inputs, Settings
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.kernels.cpu import _dispatch as cpu
from evomerge.methods.statistics import Statistics

COEFFICIENT_STEP = 1e-4  # of a parameter, relative to the larger of it and 1: coefficients are float64
TENSOR_STEP = 2e-3  # the same where tensors are differenced, in float32
JUMP = 0.1  # an element that changes by more than this share of its largest task vector within the step jumps


class Direction(NamedTuple):
    """A number that a merge depends on smoothly.

    Attributes:
        parameter: its name.
        model: position of the model that it belongs to; None = it is one of the whole merge.
    """

    parameter: str
    model: int | None


def directions(method: Method, settings: Settings) -> list[Direction]:
    """Return every number of these settings that the result of a method depends on smoothly."""
    smooth = {parameter.name for parameter in method.parameters if parameter.smooth}
    shared = [Direction(name, None) for name, _ in settings.merge if name in smooth]
    return shared + [
        Direction(name, model) for model, values in enumerate(settings.parents) for name, _ in values if name in smooth
    ]


def derivatives(
    method: Method,
    inputs: Inputs,
    settings: Settings,
    gradient: torch.Tensor,
    wanted: Sequence[Direction],
    *,
    statistics: Statistics | None = None,
) -> list[float]:
    """Return the derivative of a scalar by each of some parameters.

    Args:
        method: the arithmetic.
        inputs: the tensors that were merged.
        settings: values of the method's parameters there.
        gradient: of the scalar by the merged tensor, of its shape; any floating dtype.
        wanted: which parameters, of `directions(method, settings)`.
        statistics: what is already known of the inputs; computed here otherwise.

    Returns:
        One number for each; NaN where the method has no result for the parameter a little larger or smaller.
    """
    if gradient.numel() == 0 or not wanted:
        return [0.0] * len(wanted)
    statistics = statistics or Statistics(inputs.models, inputs.base)
    flat = gradient.reshape(-1)
    if isinstance(method, LinearCombination):
        found = _of_combination(method, inputs, settings, flat, wanted, statistics)
        if found is not None:
            return found
    return [_of_tensor(method, inputs, settings, flat, direction, statistics) for direction in wanted]


def _of_combination(
    method: LinearCombination,
    inputs: Inputs,
    settings: Settings,
    gradient: torch.Tensor,
    wanted: Sequence[Direction],
    statistics: Statistics,
) -> list[float] | None:
    """Return the derivatives where the result is sum(c_k x_k) with one factor for each tensor; else None."""
    if not isinstance(method.coefficients(inputs, settings, statistics), Combination):
        return None
    slopes = [_slopes(method, inputs, settings, direction, statistics) for direction in wanted]
    base = None if inputs.base is None else inputs.base.reshape(-1)
    deltas, whole = cpu.inner_products(gradient, [model.reshape(-1) for model in inputs.models], base)
    found = []
    for slope in slopes:
        if slope is None:
            found.append(math.nan)
            continue
        total, models = slope
        found.append(total * whole + math.fsum(factor * delta for factor, delta in zip(models, deltas, strict=True)))
    return found


def _slopes(
    method: LinearCombination, inputs: Inputs, settings: Settings, direction: Direction, statistics: Statistics
) -> tuple[float, list[float]] | None:
    """Return how fast the sum of all factors, and each model's factor, change with a parameter."""
    low, high, step = _around(settings, direction, COEFFICIENT_STEP)
    try:
        pair = [method.coefficients(inputs, moved, statistics) for moved in (low, high)]
    except MergeFailed:
        return None
    below, above = pair
    assert isinstance(below, Combination) and isinstance(above, Combination)
    models = [(b - a) / (2 * step) for a, b in zip(below.models, above.models, strict=True)]
    if inputs.base is None:
        return 0.0, models
    total = math.fsum((*above.models, above.base)) - math.fsum((*below.models, below.base))
    return total / (2 * step), models


def _of_tensor(
    method: Method,
    inputs: Inputs,
    settings: Settings,
    gradient: torch.Tensor,
    direction: Direction,
    statistics: Statistics,
) -> float:
    """Return one derivative from the merge with the parameter a little larger, and a little smaller."""
    low, high, step = _around(settings, direction, TENSOR_STEP)
    shape, device = inputs.models[0].shape, gradient.device
    below, above = (torch.empty(shape, dtype=torch.float32, device=device) for _ in range(2))
    try:
        merge_into(below, method, inputs, low, statistics=statistics)
        merge_into(above, method, inputs, high, statistics=statistics)
    except MergeFailed:
        return math.nan
    change = above.sub_(below).view(-1)
    _leave_out_jumps(change, inputs)
    (product,), _ = cpu.inner_products(gradient, [change], None)
    return product / (2 * step)


def _leave_out_jumps(change: torch.Tensor, inputs: Inputs) -> None:
    """Set to 0 where elements change by far more than a small step of a weight explains, (n,) in place."""
    base = None if inputs.base is None else inputs.base.reshape(-1)
    scratch = Scratch(min(BLOCK_ELEMENTS, change.numel()), torch.float32, change.device)
    for start in range(0, change.numel(), BLOCK_ELEMENTS):
        block = change[start : start + BLOCK_ELEMENTS]
        end = start + block.numel()
        largest = scratch.buffer("largest", block.numel()).zero_()
        for model in inputs.models:
            delta = scratch.load("delta", model.reshape(-1)[start:end])
            if base is not None:
                delta.sub_(scratch.load("base", base[start:end]))
            torch.maximum(largest, delta.abs_(), out=largest)
        block[block.abs() > largest.mul_(JUMP)] = 0.0


def _around(settings: Settings, direction: Direction, relative: float) -> tuple[Settings, Settings, float]:
    """Return the settings with a parameter moved down and up, and by how much."""
    values = settings.merge if direction.model is None else settings.parents[direction.model]
    value = float(dict(values)[direction.parameter])
    step = relative * max(1.0, abs(value))
    return (
        settings.replaced(direction.parameter, value - step, direction.model),
        settings.replaced(direction.parameter, value + step, direction.model),
        step,
    )
