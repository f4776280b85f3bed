"""NearSwap: take over the other model's elements where they differ least from the base's (alchemonaut 2024)."""

from collections.abc import Sequence

import torch

from evomerge.methods.core import (
    AbsentRule,
    Block,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.statistics import Statistics

SMALLEST_DIFFERENCE = 1e-6  # no smaller one is divided by


class NearSwap(Method):
    """w x + (1 - w) base, w = min(1, t / |x - base|)."""

    name = "nearswap"
    title = "NearSwap: take over what differs least"
    formula = "w x + (1 - w) base, w = min(1, t / |x - base|)"
    paper = "alchemonaut 2024, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001"
    base = "required"
    inputs = (1, 1)
    parameters = (
        Parameter(name="t", per="merge", gene=(0.0, 0.001), doc="differences up to this are taken over whole"),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> float:
        """Return t."""
        return float(settings.shared("t"))

    def combine(self, out: torch.Tensor, block: Block, coefficients: float) -> None:
        """Write one block."""
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        delta = block.scratch.load("delta", block.models[0]).sub_(base)
        share = torch.abs(delta, out=block.scratch.buffer("share", out.numel()))
        share.clamp_(min=SMALLEST_DIFFERENCE).reciprocal_().mul_(coefficients).clamp_(0, 1)
        # Where the share is 1 the element is the model's own, exactly.
        torch.where(share == 1, block.scratch.load("model", block.models[0]), base + delta.mul_(share), out=out)

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Take over the base's tensor if only the base has it, as mergekit does; refuse if only the model has it."""
        return AbsentRule("copy") if base and not any(models) else AbsentRule("refuse")
