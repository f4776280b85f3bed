"""NuSLERP: spherical interpolation by weights, of two models or of their task vectors."""

import math
from collections.abc import Sequence

import torch

from evomerge.methods.core import (
    COLLINEAR,
    SHARE,
    AbsentRule,
    Inputs,
    Linear,
    LinearCombination,
    Parameter,
    Settings,
    by_fiber,
    copy_only,
    gram_of_averaged,
    on_base,
)
from evomerge.methods.statistics import Axis, Statistics

SMALLEST_SUM = 1e-6  # two weights whose sum is closer to 0 count as equal
SMALLEST_NORM = 1e-7  # no smaller norm is divided by


class NuSlerp(LinearCombination):
    """Slerp by weights, of models or of task vectors, for whole tensors or for each row or column."""

    name = "nuslerp"
    title = "Slerp by weights (NuSLERP)"
    formula = "base + slerp(x_1 - base, x_2 - base; t = w_2 / (w_1 + w_2)), without base: slerp(x_1, x_2; t)"
    paper = "Shoemake 1985, https://doi.org/10.1145/325334.325242, in the form of mergekit's nuslerp"
    base = "optional"
    inputs = (2, 2)
    parameters = (
        SHARE,
        Parameter(name="nuslerp_flatten", per="merge", kind="flag", default=True, doc="one angle for the whole tensor"),
        Parameter(
            name="nuslerp_row_wise",
            per="merge",
            kind="flag",
            default=False,
            doc="without flatten: one angle for each index but the first axis's, instead of each but the last's",
        ),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Linear:
        """Return the factors of the whole tensors, or of each fiber without `nuslerp_flatten`."""
        first, second = settings.each("weight")
        t = second / (first + second) if abs(first + second) >= SMALLEST_SUM else 0.5
        if t in (0.0, 1.0):
            return on_base(inputs, [1.0 - t, t])
        if settings.shared("nuslerp_flatten"):
            factors = _arc(gram_of_averaged(statistics, inputs)[None], t)
            return on_base(inputs, [float(factor) for factor in factors])
        axis: Axis = "first" if settings.shared("nuslerp_row_wise") else "last"
        gram = statistics.fiber_gram(axis)
        has_base = inputs.base is not None
        return by_fiber(_arc(gram[:, 1:, 1:] if has_base else gram, t), statistics.shape, axis, on_base=has_base)

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Take over the one model that has the tensor."""
        return copy_only([*enumerate(models)])


def _arc(gram: torch.Tensor, t: float) -> list[torch.Tensor]:
    """Return the slerp coefficients of two vectors; a line where they are collinear.

    Args:
        gram: (groups, 2, 2) float64.
        t: 0 = the first vector, 1 = the second.

    Returns:
        Two (groups,) float64.
    """
    norms = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().clamp(min=SMALLEST_NORM)
    cosine = (gram[:, 0, 1] / norms.prod(1)).clamp(-1, 1)
    straight = 1 - cosine**2 <= COLLINEAR
    angle = torch.where(straight, math.pi / 2, cosine.acos())
    return [torch.where(straight, share, (share * angle).sin() / angle.sin()) for share in (1.0 - t, t)]
