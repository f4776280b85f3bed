"""RAM: elements that one model alone changed are taken over whole, shared ones averaged (Yuan 2026)."""

from typing import ClassVar, NamedTuple

import torch

from evomerge.methods.core import (
    Block,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.statistics import Statistics, chunks

SMALLEST = 1e-300  # keeps an empty count with epsilon 0 out of a division


class Activity(NamedTuple):
    """Which elements count as changed.

    Attributes:
        epsilon: smaller differences are no change.
        alone: the factor of each model where it alone is active.
    """

    epsilon: float
    alone: tuple[float, ...]


_EPSILON = Parameter(
    name="epsilon", per="merge", default=1e-5, low=0.0, doc="differences up to this count as no change"
)


class RAM(Method):
    """base + sum over active models of f_i d_i / their number; f_i is 1."""

    name = "ram"
    title = "RAM: reinforced agent merging"
    formula = "base + mean of (x_i - base) over the models that changed the element by more than epsilon"
    paper = "Yuan 2026, https://arxiv.org/abs/2601.13572"
    base = "required"
    inputs = (1, None)
    parameters: ClassVar[tuple[Parameter, ...]] = (_EPSILON,)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Activity:
        """Return epsilon."""
        return Activity(float(settings.shared("epsilon")), (1.0,) * len(inputs.models))

    def combine(self, out: torch.Tensor, block: Block, coefficients: Activity) -> None:
        """Write one block."""
        assert block.base is not None
        epsilon, alone = coefficients
        base = block.scratch.load("base", block.base)
        deltas = [block.scratch.load(f"delta{i}", model).sub_(base) for i, model in enumerate(block.models)]
        active = [_active(delta, epsilon) for delta in deltas]
        number = block.scratch.buffer("number", out.numel()).zero_()
        out.zero_()
        for delta, here in zip(deltas, active, strict=True):
            number.add_(here)
            out.add_(delta.masked_fill_(here.logical_not(), 0))
        out.div_(number.clamp(min=1))
        single = number == 1 if any(factor != 1 for factor in alone) else None
        for factor, here in zip(alone, active, strict=True):
            if single is not None and factor != 1:
                torch.where(here.logical_and_(single), out * factor, out, out=out)
        out.add_(base)


class RAMPlus(RAM):
    """RAM with f_i above 1 where model i alone is active."""

    name = "ramplus_tl"
    title = "RAM+ with a factor for each tensor"
    formula = "as ram; an element that model i alone changed is scaled by 1 + r clip(shared_i / unique_i, 0, alpha)"
    parameters = (
        Parameter(name="r", per="merge", default=0.1, gene=(0.0, 0.5), smooth=True, doc="strength of the factor"),
        Parameter(name="alpha", per="merge", default=0.2, low=0.0, doc="largest ratio of shared to unique that counts"),
        _EPSILON,
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Activity:
        """Return epsilon and each model's factor, from how many of its elements others share."""
        epsilon = float(settings.shared("epsilon"))
        counts = statistics.cached(f"overlap - {epsilon!r}", lambda: _overlap(statistics, epsilon)).tolist()
        r, alpha = float(settings.shared("r")), float(settings.shared("alpha"))
        ratios = [shared / max(unique, epsilon, SMALLEST) if shared else 0.0 for shared, unique in counts]
        return Activity(epsilon, tuple(1 + r * min(max(ratio, 0.0), alpha) for ratio in ratios))


def _active(delta: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return (n,) bool: |delta| > epsilon; NaN is active, so that a damaged parent shows."""
    return (delta.abs() <= epsilon).logical_not_()


def _overlap(statistics: Statistics, epsilon: float) -> torch.Tensor:
    """Return (models, 2) float64: how many of a model's active elements others share, and how many are its alone."""
    counts = [(0, 0)] * statistics.count
    for start, end in chunks(statistics.size):
        active = [_active(statistics.delta(model, start, end), epsilon) for model in range(statistics.count)]
        number = torch.stack(active).sum(0)
        for model, here in enumerate(active):
            unique, every = int((here & (number == 1)).sum()), int(here.sum())
            counts[model] = (counts[model][0] + every - unique, counts[model][1] + unique)
    return torch.tensor(counts, dtype=torch.float64)
