"""Passthrough: one input, as it is or scaled; the building block of layer stacks."""

from evomerge.methods.core import (
    Combination,
    Contributions,
    Inputs,
    LinearCombination,
    Parameter,
    Settings,
)
from evomerge.methods.statistics import Statistics


class Passthrough(LinearCombination):
    """x, or scale * x."""

    name = "passthrough"
    title = "Passthrough (layer stacking)"
    formula = "scale * x"
    paper = "goes back to the community's 'frankenmerges', 2023"
    base = "input"
    inputs = (1, 1)
    parameters = (Parameter(name="scale", per="input", default=1.0, smooth=True, doc="factor on the tensor"),)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the scale."""
        return Combination(0.0, tuple(settings.each("scale")))

    def contributions(self, settings: Settings) -> Contributions:
        """Return the scale."""
        return Contributions(tuple(settings.each("scale")))

    def copied_model(self, settings: Settings) -> int | None:
        """Return the only model if its scale is 1."""
        return 0 if settings.each("scale") == [1.0] else None
