"""SCE: select the elements that vary most, calculate each model's weight from its energy, erase minority signs."""

import math
from typing import NamedTuple

import torch

from evomerge.methods.core import (
    Block,
    Inputs,
    Method,
    Parameter,
    Settings,
    Variant,
)
from evomerge.methods.statistics import Cut, Statistics, chunks, select

SMALLEST_ENERGY = 1e-6  # mergekit weighs all models alike when their energies sum to less
SMALLEST_DIVISOR = 1e-6

ENERGY = Variant(
    name="energy",
    options=("floored", "exact"),
    doc="floored: models weigh the same when their mean squared task vectors sum to less than 1e-6, as those of"
    " ordinary fine-tunes do (mergekit); exact: always by energy (paper)",
)


class Energies(NamedTuple):
    """What the elements of an SCE merge need.

    Attributes:
        weights: of the models, summing to 1.
        cut: on the variance over models; None = all elements take part.
    """

    weights: tuple[float, ...]
    cut: Cut | None


class SCE(Method):
    """base + sum(w_i m_i d_i) / sum(w_i m_i), m_i = 1 where d_i has the sign of sum(d_i)  (Wan 2024, section 3.3)."""

    name = "sce"
    title = "SCE: select, calculate, erase"
    formula = "base + sum(w_i m_i d_i) / sum(w_i m_i), w_i ~ mean(d_i^2), m_i = sign agrees with sum(d_i)"
    paper = "Wan 2024, https://arxiv.org/abs/2408.07990"
    base = "required"
    inputs = (1, None)
    parameters = (
        Parameter(
            name="select_topk",
            per="merge",
            default=1.0,
            low=0.0,
            high=1.0,
            gene=(0.05, 1.0),
            positive=True,
            doc="fraction of the elements, those that vary most over models, that is merged",
        ),
    )
    variants = (ENERGY,)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Energies:
        """Return each model's share of the energy of the selected elements."""
        topk = float(settings.shared("select_topk"))
        cut = None
        if topk < 1:
            count = int(float(statistics.cached("varying", lambda: _varying(statistics))) * topk)
            cut = statistics.memoized(("variance", count), lambda: _cut(statistics, count))
        energies = statistics.memoized(("energies", cut), lambda: _energies(statistics, cut))
        total = math.fsum(energies)
        floor = SMALLEST_ENERGY if settings.variant(ENERGY) == "floored" else 0.0
        if total <= 0 or total < floor:
            return Energies((1 / len(energies),) * len(energies), cut)
        return Energies(tuple(energy / total for energy in energies), cut)

    def combine(self, out: torch.Tensor, block: Block, coefficients: Energies) -> None:
        """Write one block."""
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        deltas = [block.scratch.load(f"delta{i}", model).sub_(base) for i, model in enumerate(block.models)]
        if coefficients.cut is not None:
            _select(deltas, coefficients.cut, block.start)
        total = block.scratch.buffer("total", out.numel()).copy_(deltas[0])
        for delta in deltas[1:]:
            total.add_(delta)
        sign = block.scratch.buffer("sign", out.numel()).copy_(total >= 0).mul_(2).sub_(1)
        divisor = block.scratch.buffer("divisor", out.numel()).zero_()
        out.zero_()
        for delta, weight in zip(deltas, coefficients.weights, strict=True):
            differs = torch.mul(delta, sign, out=total) <= 0
            out.add_(delta.masked_fill_(differs, 0).mul_(weight))
            divisor.add_(differs.logical_not_(), alpha=weight)
        out.div_(divisor.clamp_(min=SMALLEST_DIVISOR)).add_(base)


def _deltas(statistics: Statistics, start: int, end: int) -> list[torch.Tensor]:
    return [statistics.delta(model, start, end) for model in range(statistics.count)]


def _variance(deltas: list[torch.Tensor]) -> torch.Tensor:
    """Return (n,): the variance over models, divided by their number; the same bits wherever it is computed."""
    mean = deltas[0].clone()
    for delta in deltas[1:]:
        mean.add_(delta)
    mean.div_(len(deltas))
    total = torch.zeros_like(mean)
    for delta in deltas:
        difference = delta - mean
        total.add_(difference.mul_(difference))
    return total.div_(len(deltas))


def _cut(statistics: Statistics, count: int) -> Cut:
    return select(lambda start, end: _variance(_deltas(statistics, start, end)), statistics.size, count)


def _varying(statistics: Statistics) -> torch.Tensor:
    varying = (int(_variance(_deltas(statistics, *where)).count_nonzero()) for where in chunks(statistics.size))
    return torch.tensor(sum(varying), dtype=torch.float64)


def _select(deltas: list[torch.Tensor], cut: Cut, start: int) -> None:
    """Set to 0, in every delta, the elements whose variance the cut does not keep."""
    variance = _variance(deltas)
    drop = variance <= cut.threshold
    tied = min(variance.numel(), cut.tie_end - start)
    if tied > 0:
        torch.lt(variance[:tied], cut.threshold, out=drop[:tied])
    for delta in deltas:
        delta.masked_fill_(drop, 0)


def _energies(statistics: Statistics, cut: Cut | None) -> list[float]:
    """Return each model's mean squared task vector over all elements, unselected ones counted as 0."""
    sums = [0.0] * statistics.count
    for start, end in chunks(statistics.size):
        deltas = _deltas(statistics, start, end)
        if cut is not None:
            _select(deltas, cut, start)
        for model, delta in enumerate(deltas):
            wide = delta.double()
            sums[model] += float(torch.dot(wide, wide))
    return [value / statistics.size for value in sums]
