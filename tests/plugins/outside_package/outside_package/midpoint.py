"""The merge method `midpoint`: part of the way from the base to the mean of the models."""

from typing import Any

from evomerge.methods import Combination, Inputs, LinearCombination, Parameter, Settings, Statistics


class Midpoint(LinearCombination):
    """(1 - share) * base + share * mean(x_i)."""

    name = "midpoint"
    title = "Midpoint"
    formula = "(1 - share) * base + share * mean(x_i)"
    paper = "none; an example"
    base = "required"
    inputs = (1, None)
    parameters = (
        Parameter(name="share", per="merge", default=0.5, low=0.0, high=1.0, gene=(0.0, 1.0), doc="of the way"),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Any:
        """Return the factor on the base and one for each model."""
        share = float(settings.shared("share"))
        return Combination(1.0 - share, (share / len(inputs.models),) * len(inputs.models))
