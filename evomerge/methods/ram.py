"""RAM: elements that one model alone changed are taken over whole, shared ones averaged."""

from typing import NamedTuple

import torch

from evomerge.methods.core._method import (
    Arithmetic,
    Block,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.statistics._selection import chunks
from evomerge.methods.statistics._tables import Statistics

SMALLEST = 1e-300  # keeps an empty count with epsilon 0 out of a division


class Activity(NamedTuple):
    """epsilon: smaller differences are no change. alone: of each model, the factor where it alone is active."""

    epsilon: float
    alone: tuple[float, ...]


class _RAM(Arithmetic):
    """base + sum over active models of f_i d_i / their number; f_i is 1, or above 1 where a model is alone."""

    def __init__(self, rescaled: bool):
        self.rescaled = rescaled

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Activity:
        epsilon = float(settings.shared("epsilon"))
        if not self.rescaled:
            return Activity(epsilon, (1.0,) * len(inputs.models))
        counts = statistics.lasting(f"overlap - {epsilon!r}", lambda: _overlap(statistics, epsilon)).tolist()
        r, alpha = float(settings.shared("r")), float(settings.shared("alpha"))
        ratios = [shared / max(unique, epsilon, SMALLEST) if shared else 0.0 for shared, unique in counts]
        return Activity(epsilon, tuple(1 + r * min(max(ratio, 0.0), alpha) for ratio in ratios))

    def combine(self, out: torch.Tensor, block: Block, coefficients: Activity) -> None:
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
        if self.rescaled:
            single = number == 1
            for factor, here in zip(alone, active, strict=True):
                if factor != 1:
                    torch.where(here.logical_and_(single), out * factor, out, out=out)
        out.add_(base)


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


_EPSILON = Parameter(
    name="epsilon", per="merge", default=1e-5, low=0.0, doc="differences up to this count as no change"
)

RAM = Method(
    name="ram",
    title="RAM: reinforced agent merging",
    formula="base + mean of (x_i - base) over the models that changed the element by more than epsilon",
    paper="Yuan 2026, https://arxiv.org/abs/2601.13572",
    base="required",
    inputs=(1, None),
    parameters=(_EPSILON,),
    arithmetic=_RAM(rescaled=False),
)

RAMPLUS_TL = Method(
    name="ramplus_tl",
    title="RAM+ with a factor for each tensor",
    formula="as ram; an element that model i alone changed is scaled by 1 + r clip(shared_i / unique_i, 0, alpha)",
    paper="Yuan 2026, https://arxiv.org/abs/2601.13572",
    base="required",
    inputs=(1, None),
    parameters=(
        Parameter(name="r", per="merge", default=0.1, gene=(0.0, 0.5), doc="strength of the factor"),
        Parameter(name="alpha", per="merge", default=0.2, low=0.0, doc="largest ratio of shared to unique that counts"),
        _EPSILON,
    ),
    arithmetic=_RAM(rescaled=True),
    passes=2,
)
