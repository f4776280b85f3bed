"""The Karcher mean: the direction with the least sum of squared angles to all inputs (Karcher 1977)."""

import math

import torch

from evomerge.methods.core import (
    COLLINEAR,
    Combination,
    Inputs,
    LinearCombination,
    Parameter,
    Settings,
    Span,
)
from evomerge.methods.statistics import Statistics


class Karcher(LinearCombination):
    """The Riemannian mean of the directions, by gradient steps, at the mean length of all inputs."""

    name = "karcher"
    title = "Karcher mean"
    formula = "mean(|x_i|) * the unit vector with the least sum of squared angles to all x_i"
    paper = "Karcher 1977, https://doi.org/10.1002/cpa.3160300502"
    base = "input"
    inputs = (1, None)
    parameters = (
        Parameter(name="max_iter", per="merge", kind="integer", default=10, low=0, doc="largest number of steps"),
        Parameter(name="tol", per="merge", default=1e-5, low=0.0, doc="steps and norms below this end the search"),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the mean's coefficients, after at most `max_iter` steps."""
        count, tol = len(inputs.models), float(settings.shared("tol"))
        if count == 1:
            return Combination(0.0, (1.0,))
        span = Span(statistics.gram())
        units = [span.along(i, 1 / norm) for i, norm in enumerate(span.norms) if norm > tol]
        if not units:
            return Combination(0.0, (0.0,) * count)
        mean = _mean_direction(span, units, tol)
        for _ in range(int(settings.shared("max_iter"))):
            tangent = _tangent(span, units, mean, tol)
            length = span.norm(tangent)
            if length <= tol:
                break
            mean = math.cos(length) * mean + math.sin(length) / length * tangent
            mean = mean / span.norm(mean)
        return Combination(0.0, tuple((mean * (math.fsum(span.norms) / count)).tolist()))


def _mean_direction(span: Span, units: list[torch.Tensor], tol: float) -> torch.Tensor:
    mean = torch.stack(units).mean(0)
    length = span.norm(mean)
    return mean / length if length > tol else units[0]


def _tangent(span: Span, units: list[torch.Tensor], mean: torch.Tensor, tol: float) -> torch.Tensor:
    """Return the mean of the directions from `mean` to each unit vector, with the angle as length."""
    total = torch.zeros_like(mean)
    for unit in units:
        cosine = max(-1.0, min(1.0, span.dot(unit, mean)))
        angle = math.acos(cosine)
        # An opposite vector lies in every direction at once, so in none.
        if angle > tol and (cosine > 0 or math.sin(angle) ** 2 > COLLINEAR):
            total += angle / math.sin(angle) / len(units) * (unit - cosine * mean)
    return total
