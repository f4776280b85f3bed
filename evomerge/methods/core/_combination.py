"""Linear combinations of the inputs: their coefficients, and the sum in plain torch."""

import math
from typing import NamedTuple

import torch

from evomerge.methods.core._records import Block

AMPLIFYING = 4.0  # sum of |coefficients| above which rounding would show, and task vectors are added up instead


class Combination(NamedTuple):
    """out = base * `base` + sum of model_i * `models[i]`."""

    base: float
    models: tuple[float, ...]


class FiberCombination(NamedTuple):
    """A linear combination with coefficients of its own for each fiber: position p belongs to (p // run) % groups.

    Attributes:
        base: (groups,) float64, or None.
        models: one (groups,) float64 for each model.
        run: consecutive elements of one fiber.
    """

    base: torch.Tensor | None
    models: tuple[torch.Tensor, ...]
    run: int


Linear = Combination | FiberCombination


def combine(out: torch.Tensor, block: Block, coefficients: Linear) -> None:
    """Write the linear combination of one block. A coefficient of 0 leaves its input unread."""
    if isinstance(coefficients, FiberCombination):
        _combine_fibers(out, block, coefficients)
        return
    if amplifies(block.base, coefficients):
        _combine_differences(out, block, coefficients)
        return
    tensors = [block.base, *block.models] if block.base is not None else list(block.models)
    factors = [coefficients.base, *coefficients.models] if block.base is not None else list(coefficients.models)
    used = [(tensor, factor) for tensor, factor in zip(tensors, factors, strict=True) if factor != 0]
    if not used:
        out.zero_()
        return
    (first, factor), *rest = used
    out.copy_(first)
    if factor != 1:
        out.mul_(factor)
    for tensor, factor in rest:
        out.add_(block.scratch.load("term", tensor).mul_(factor))


def amplifies(base: torch.Tensor | None, coefficients: Combination) -> bool:
    """Return whether coefficients are so large that task vectors are added up instead of tensors."""
    return base is not None and abs(coefficients.base) + sum(map(abs, coefficients.models)) > AMPLIFYING


def total_factor(coefficients: Combination) -> float:
    """Return the factor on the base where task vectors are added to it, instead of models."""
    return coefficients.base + math.fsum(coefficients.models)


def _combine_differences(out: torch.Tensor, block: Block, coefficients: Combination) -> None:
    """Write the same sum from task vectors, which large coefficients amplify the least."""
    assert block.base is not None
    base = block.scratch.load("base", block.base)
    torch.mul(base, total_factor(coefficients), out=out)
    for tensor, factor in zip(block.models, coefficients.models, strict=True):
        out.add_(block.scratch.load("term", tensor).sub_(base).mul_(factor))


def _combine_fibers(out: torch.Tensor, block: Block, coefficients: FiberCombination) -> None:
    position = torch.arange(block.start, block.start + out.numel(), device=out.device)
    fiber = position.div_(coefficients.run, rounding_mode="floor").remainder_(coefficients.models[0].numel())
    terms = list(zip(block.models, coefficients.models, strict=True))
    if block.base is not None and coefficients.base is not None:
        terms.insert(0, (block.base, coefficients.base))
    out.zero_()
    for tensor, factors in terms:
        factor = factors.to(out.device, out.dtype)[fiber]
        out.add_(block.scratch.load("term", tensor).mul_(factor))
