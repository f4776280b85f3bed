"""Methods that move single elements of the base to one other model's: nearswap and Arcee Fusion."""

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
from evomerge.methods.statistics._selection import chunks, select
from evomerge.methods.statistics._tables import Statistics

SMALLEST_DIFFERENCE = 1e-6  # nearswap divides by no smaller one
SMOOTHING = 1e-8  # added to the probabilities of Arcee Fusion


class _NearSwap(Arithmetic):
    """w x + (1 - w) base, w = min(1, t / |x - base|)."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> float:
        return float(settings.shared("t"))

    def combine(self, out: torch.Tensor, block: Block, coefficients: float) -> None:
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        delta = block.scratch.load("delta", block.models[0]).sub_(base)
        share = torch.abs(delta, out=block.scratch.buffer("share", out.numel()))
        share.clamp_(min=SMALLEST_DIFFERENCE).reciprocal_().mul_(coefficients).clamp_(0, 1)
        # Where the share is 1 the element is the model's own, exactly.
        torch.where(share == 1, block.scratch.load("model", block.models[0]), base + delta.mul_(share), out=out)


class Fusion(NamedTuple):
    """divergence: (rows,) of each row's softmax from the base's; an element moves if importance >= threshold."""

    divergence: torch.Tensor
    threshold: float
    row: int


class _ArceeFusion(Arithmetic):
    """x where |x - base| * KL(softmax(x row) | softmax(base row)) is an outlier, else the base."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Fusion:
        return statistics.remember("fusion", lambda: _fusion(inputs, statistics))

    def combine(self, out: torch.Tensor, block: Block, coefficients: Fusion) -> None:
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        model = block.scratch.load("model", block.models[0])
        importance = _importance(model - base, coefficients.divergence, coefficients.row, block.start)
        torch.where(importance < coefficients.threshold, base, model, out=out)


def _fusion(inputs: Inputs, statistics: Statistics) -> Fusion:
    row = statistics.shape[-1] if statistics.shape else 1
    divergence = _divergence(inputs, statistics.size, row)

    def importance(start: int, end: int) -> torch.Tensor:
        return _importance(statistics.delta(0, start, end), divergence, row, start)

    # Quantiles are the lower of the two neighbors, here counted from the largest value.
    lower, middle, upper = (
        select(importance, statistics.size, statistics.size - quarter * (statistics.size - 1) // 4).threshold
        for quarter in (1, 2, 3)
    )
    return Fusion(divergence, middle + 1.5 * (upper - lower), row)


def _importance(delta: torch.Tensor, divergence: torch.Tensor, row: int, start: int) -> torch.Tensor:
    """Return |delta| times the divergence of its row, for a stretch from flat position `start`."""
    rows = torch.arange(start, start + delta.numel(), device=delta.device).div_(row, rounding_mode="floor")
    return delta.abs().mul_(divergence[rows])


def _divergence(inputs: Inputs, size: int, row: int) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of each row's softmax, (rows,), in the inputs' working precision."""
    assert inputs.base is not None
    model, base = (tensor.reshape(-1) for tensor in (inputs.models[0], inputs.base))
    work = torch.float64 if torch.float64 in (model.dtype, base.dtype) else torch.float32
    pieces = []
    for start, end in chunks(size, row * max(1, (1 << 18) // row)):
        p, q = (x[start:end].double().view(-1, row).softmax(1).add_(SMOOTHING) for x in (model, base))
        # Above 0 but for rounding: a negative importance would break the order of bit patterns.
        pieces.append((p * (p / q).log()).sum(1).clamp_(min=0).to(work))
    return torch.cat(pieces)


NEARSWAP = Method(
    name="nearswap",
    title="NearSwap: take over what differs least",
    formula="w x + (1 - w) base, w = min(1, t / |x - base|)",
    paper="alchemonaut 2024, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    base="required",
    inputs=(1, 1),
    parameters=(
        Parameter(name="t", per="merge", gene=(0.0, 0.001), doc="differences up to this are taken over whole"),
    ),
    arithmetic=_NearSwap(),
)

ARCEE_FUSION = Method(
    name="arcee_fusion",
    title="Arcee Fusion: take over what matters most",
    formula="x where |x - base| KL(softmax(x row) | softmax(base row)) >= median + 1.5 (Q3 - Q1), else base",
    paper="Arcee AI 2025, https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration",
    base="required",
    inputs=(1, 1),
    parameters=(),
    arithmetic=_ArceeFusion(),
    passes=4,
)
