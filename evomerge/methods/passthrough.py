"""Passthrough: one input, as it is or scaled; the building block of layer stacks."""

from evomerge.methods.core._linear_combination import Combination, combine, fused
from evomerge.methods.core._method import (
    Arithmetic,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.statistics._tables import Statistics


class _Passthrough(Arithmetic):
    """x, or scale * x."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        return Combination(0.0, tuple(settings.each("scale")))

    combine = staticmethod(combine)
    fused = staticmethod(fused)


PASSTHROUGH = Method(
    name="passthrough",
    title="Passthrough (layer stacking)",
    formula="scale * x",
    paper="goes back to the community's 'frankenmerges', 2023",
    base="input",
    inputs=(1, 1),
    parameters=(Parameter(name="scale", per="input", default=1.0, doc="factor on the tensor"),),
    arithmetic=_Passthrough(),
)
