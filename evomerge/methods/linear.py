"""Linear: the weighted mean of the models (Wortsman 2022)."""

import math

from evomerge.errors import MergeFailed
from evomerge.methods.core import (
    SMALLEST_SUM,
    Combination,
    Inputs,
    LinearCombination,
    Parameter,
    Settings,
    normalize,
)
from evomerge.methods.statistics import Statistics


class LinearMean(LinearCombination):
    """Weighted mean: sum(w_i x_i) / sum(w_i), or the plain sum."""

    name = "linear"
    title = "Linear (model soup)"
    formula = "sum(w_i x_i) / sum(w_i)"
    paper = "Wortsman 2022, https://arxiv.org/abs/2203.05482"
    base = "input"
    inputs = (1, None)
    parameters = (
        Parameter(name="weight", per="input", gene=(0.0, 1.0), start="equal", smooth=True, doc="share of this model"),
        normalize(True),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the weights, divided by their sum with `normalize`."""
        weights = settings.each("weight")
        if settings.shared("normalize"):
            total = math.fsum(weights)
            if abs(total) < SMALLEST_SUM:
                raise MergeFailed(f"{inputs.tensor}: the weights sum to {total:g}; normalize: true needs another sum")
            weights = [weight / total for weight in weights]
        return Combination(0.0, tuple(weights))
