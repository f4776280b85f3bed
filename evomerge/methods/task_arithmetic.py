"""Task arithmetic: the base plus weighted task vectors (Ilharco 2023)."""

import math

from evomerge.methods.core import (
    LAMBDA,
    WEIGHT,
    Combination,
    Inputs,
    LinearCombination,
    Settings,
    normalize,
    scaled,
)
from evomerge.methods.statistics import Statistics


class TaskArithmetic(LinearCombination):
    """base + lambda * sum(w_i (x_i - base)), divided by sum(w_i) with normalize."""

    name = "task_arithmetic"
    title = "Task arithmetic"
    formula = "base + lambda * sum(w_i (x_i - base))"
    paper = "Ilharco 2023, https://arxiv.org/abs/2212.04089"
    base = "required"
    inputs = (1, None)
    parameters = (
        WEIGHT,
        normalize(False),
        LAMBDA,
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the factor on each model and what is left for the base."""
        weights = scaled(settings.each("weight"), settings)
        return Combination(1.0 - math.fsum(weights), tuple(weights))
