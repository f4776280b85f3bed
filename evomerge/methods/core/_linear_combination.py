"""What methods share that are one linear combination of their inputs: only the coefficients differ."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch

from evomerge.methods.core._combination import (
    Combination,
    FiberCombination,
    Linear,
    amplifies,
    combine,
    total_factor,
)
from evomerge.methods.core._method import Contributions, Method
from evomerge.methods.core._records import Block, Inputs, Parameter, Settings
from evomerge.methods.kernels.cpu import _dispatch as cpu
from evomerge.methods.kernels.gpu import _dispatch as gpu
from evomerge.methods.statistics import Axis, Statistics, fibers

SMALLEST_SUM = 1e-8  # weight sums closer to 0 than this have no meaningful quotient

WEIGHT = Parameter(name="weight", per="parent", gene=(0.0, 1.5), start="equal", smooth=True, doc="share of this model")
SHARE = Parameter(name="weight", per="parent", gene=(0.0, 1.0), start="equal", smooth=True, doc="share of this model")
LAMBDA = Parameter(name="lambda", per="merge", default=1.0, smooth=True, doc="factor on the summed task vectors")


def normalize(default: bool) -> Parameter:
    """Return the `normalize` parameter with a method's own default."""
    return Parameter(name="normalize", per="merge", kind="flag", default=default, doc="divide by the sum of weights")


class LinearCombination(Method):
    """A method whose result is sum(c_i x_i): define `coefficients`, and kernels for CPU and GPU do the rest."""

    @abstractmethod
    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Linear:
        """Return the factor on each input, of whole tensors or of each fiber."""

    @final
    def combine(self, out: torch.Tensor, block: Block, coefficients: Linear) -> None:
        """Write the linear combination of one block."""
        combine(out, block, coefficients)

    @final
    def merge_compiled(
        self, out: torch.Tensor, inputs: Inputs, coefficients: Linear, gain: float
    ) -> bool | torch.Tensor | None:
        """Write the whole sum in one pass; coefficients by fiber have no kernel."""
        if isinstance(coefficients, FiberCombination):
            return None
        if not out.is_cpu:
            return gpu.combine(out, inputs, coefficients, gain)
        differences = amplifies(inputs.base, coefficients)
        return (_compiled_differences if differences else _compiled)(out, inputs, coefficients, gain)

    def contributions(self, settings: Settings) -> Contributions:
        """Return the weights, where the method has them."""
        weighted = self.parameter("weight") is not None
        return Contributions(tuple(settings.each("weight"))) if weighted else super().contributions(settings)


def _compiled(out: torch.Tensor, inputs: Inputs, coefficients: Combination, gain: float) -> bool | None:
    terms = [] if inputs.base is None else [(inputs.base, coefficients.base)]
    terms += zip(inputs.models, coefficients.models, strict=True)
    terms = [(tensor, factor) for tensor, factor in terms if factor != 0]
    code = cpu.kernels([out, *(tensor for tensor, _ in terms)])
    if code is None or not terms:
        return None
    factors = np.array([factor for _, factor in terms], dtype=np.float32)
    where = cpu.addresses([tensor for tensor, _ in terms])
    return bool(code.combine(*where, factors, *cpu.address(out), out.numel(), gain))


def _compiled_differences(out: torch.Tensor, inputs: Inputs, coefficients: Combination, gain: float) -> bool | None:
    assert inputs.base is not None
    code = cpu.kernels([out, inputs.base, *inputs.models])
    if code is None:
        return None
    factors = np.array(coefficients.models, dtype=np.float32)
    where: tuple[Any, ...] = (*cpu.address(inputs.base), *cpu.addresses(inputs.models))
    return bool(code.differences(*where, total_factor(coefficients), factors, *cpu.address(out), out.numel(), gain))


def scaled(weights: Sequence[float], settings: Settings) -> list[float]:
    """Apply `lambda` and `normalize` to task-vector weights; a zero sum is left undivided, as mergekit does."""
    factor = float(settings.shared("lambda"))
    if settings.shared("normalize"):
        total = math.fsum(weights)
        factor /= total if abs(total) >= SMALLEST_SUM else 1.0
    return [weight * factor for weight in weights]


def by_fiber(factors: Sequence[torch.Tensor], shape: Sequence[int], axis: Axis, *, on_base: bool) -> FiberCombination:
    """Return sum(c_i x_i), or base + sum(c_i (x_i - base)), over the fibers of a shape.

    Args:
        factors: one (groups,) float64 for each model.
        shape: of the tensors.
        axis: which fibers.
        on_base: whether the factors are on task vectors.
    """
    _, run = fibers(shape, axis)
    return FiberCombination(1.0 - torch.stack(list(factors)).sum(0) if on_base else None, tuple(factors), run)
