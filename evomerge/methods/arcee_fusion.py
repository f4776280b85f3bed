"""Arcee Fusion: take over the elements of another model that matter most (Arcee AI 2025)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from evomerge.methods.core import (
    BASE,
    AbsentRule,
    Block,
    Inputs,
    Method,
    Settings,
    copy_only,
)
from evomerge.methods.statistics import Statistics, chunks, select

SMOOTHING = 1e-8  # added to probabilities


class Fusion(NamedTuple):
    """What decides which elements are taken over.

    Attributes:
        divergence: (rows,) of each row's softmax from the base's.
        threshold: an element is taken over if its importance is at least this.
        row: elements of a row.
    """

    divergence: torch.Tensor
    threshold: float
    row: int


class ArceeFusion(Method):
    """x where |x - base| * KL(softmax(x row) | softmax(base row)) is an outlier, else the base."""

    name = "arcee_fusion"
    title = "Arcee Fusion: take over what matters most"
    formula = "x where |x - base| KL(softmax(x row) | softmax(base row)) >= median + 1.5 (Q3 - Q1), else base"
    paper = "Arcee AI 2025, https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration"
    base = "required"
    inputs = (1, 1)
    parameters = ()

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Fusion:
        """Return the divergence of each row and the threshold, which depend on the tensors alone."""
        return statistics.memoized("fusion", lambda: _fusion(inputs, statistics))

    def combine(self, out: torch.Tensor, block: Block, coefficients: Fusion) -> None:
        """Write one block."""
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        model = block.scratch.load("model", block.models[0])
        importance = _importance(model - base, coefficients.divergence, coefficients.row, block.start)
        torch.where(importance < coefficients.threshold, base, model, out=out)

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Take over the one input that has the tensor."""
        return copy_only([(BASE, bool(base)), *enumerate(models)])


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
