"""Slerp: spherical linear interpolation from the base to one other model (Shoemake 1985)."""

import math
from collections.abc import Sequence

from evomerge.methods.core import (
    BASE,
    AbsentRule,
    Combination,
    Contributions,
    Inputs,
    LinearCombination,
    Parameter,
    Settings,
    copy_only,
)
from evomerge.methods.statistics import Statistics

PARALLEL = 0.9995  # |cosine| above which the arc is taken as straight
SMALLEST_NORM = 1e-8  # vectors shorter than this count as having length 1


class Slerp(LinearCombination):
    """Spherical interpolation from the base (t = 0) to the model (t = 1), on the un-normalized vectors."""

    name = "slerp"
    title = "Spherical linear interpolation"
    formula = "sin((1-t)a)/sin(a) base + sin(t a)/sin(a) x, a = angle between them; a line when |cos a| > 0.9995"
    paper = "Shoemake 1985, https://doi.org/10.1145/325334.325242"
    base = "required"
    inputs = (1, 1)
    parameters = (
        Parameter(name="t", per="merge", gene=(0.0, 1.0), smooth=True, doc="0 = the base, 1 = the other model"),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the factors on base and model, from the angle between them."""
        t = float(settings.shared("t"))
        if t in (0.0, 1.0):
            return Combination(1.0 - t, (t,))
        gram = statistics.gram()
        base2, cross, delta2 = (float(gram[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        model2 = max(base2 + 2 * cross + delta2, 0.0)
        norms = [math.sqrt(square) if square > SMALLEST_NORM**2 else 1.0 for square in (base2, model2)]
        cosine = max(-1.0, min(1.0, (base2 + cross) / (norms[0] * norms[1])))
        if abs(cosine) > PARALLEL:
            return Combination(1.0 - t, (t,))
        angle = math.acos(cosine)
        return Combination(math.sin((1 - t) * angle) / math.sin(angle), (math.sin(t * angle) / math.sin(angle),))

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Take over the one input that has the tensor."""
        return copy_only([(BASE, bool(base)), *enumerate(models)])

    def contributions(self, settings: Settings) -> Contributions:
        """Return t for the model and the rest for the base."""
        t = float(settings.shared("t"))
        return Contributions((t,), 1.0 - t)
