"""Averages on the sphere: nuslerp, multislerp and the Karcher mean, each a Gram matrix turned into coefficients."""

import math

import torch

from evomerge.errors import MergeFailed
from evomerge.methods.core._linear_combination import (
    TINY,
    Combination,
    FiberCombination,
    Linear,
    combine,
    fused,
)
from evomerge.methods.core._method import (
    Arithmetic,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.core._span import Span
from evomerge.methods.statistics._gram import Axis
from evomerge.methods.statistics._tables import Statistics

SMALLEST_SUM = 1e-6  # two nuslerp weights whose sum is closer to 0 count as equal
SMALLEST_NORM = 1e-7  # nuslerp divides by no smaller norm
COLLINEAR = 1e-8  # sin^2 of the angle below which nuslerp takes the arc as straight: opposite vectors have no one arc


def _on_base(statistics: Statistics, inputs: Inputs) -> torch.Tensor:
    """Return the Gram matrix of what is averaged: task vectors if there is a base, else the models."""
    gram = statistics.gram()
    return gram if inputs.base is None else gram[1:, 1:]


def _combination(inputs: Inputs, factors: list[float]) -> Combination:
    """Return sum(c_i x_i), or base + sum(c_i (x_i - base))."""
    return Combination(0.0 if inputs.base is None else 1.0 - math.fsum(factors), tuple(factors))


class _NuSlerp(Arithmetic):
    """Slerp by weights, of models or of task vectors, for whole tensors or for each row or column."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Linear:
        first, second = settings.each("weight")
        t = second / (first + second) if abs(first + second) >= SMALLEST_SUM else 0.5
        if t in (0.0, 1.0):
            return _combination(inputs, [1.0 - t, t])
        if settings.shared("nuslerp_flatten"):
            factors = _arc(_on_base(statistics, inputs)[None], t)
            return _combination(inputs, [float(factor) for factor in factors])
        axis: Axis = "first" if settings.shared("nuslerp_row_wise") else "last"
        gram = statistics.fiber_gram(axis)
        return FiberCombination.of(
            inputs.base is not None, _arc(gram if inputs.base is None else gram[:, 1:, 1:], t), statistics.shape, axis
        )

    combine = staticmethod(combine)
    fused = staticmethod(fused)


def _arc(gram: torch.Tensor, t: float) -> list[torch.Tensor]:
    """Return the two slerp coefficients, (groups,) each, from (groups, 2, 2) Gram matrices; a line where collinear."""
    norms = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().clamp(min=SMALLEST_NORM)
    cosine = (gram[:, 0, 1] / norms.prod(1)).clamp(-1, 1)
    straight = 1 - cosine**2 <= COLLINEAR
    angle = torch.where(straight, math.pi / 2, cosine.acos())
    return [torch.where(straight, share, (share * angle).sin() / angle.sin()) for share in (1.0 - t, t)]


class _MultiSlerp(Arithmetic):
    """The weighted mean of unit vectors, renormalized, at the weighted mean length.

    Goddard's construction adds the exponential map of the mean tangent at that point. With the same weights in both
    means the tangents sum to exactly 0, so that what is left of the map is the cosine of `eps`.
    """

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        if len(inputs.models) == 1:
            return Combination(0.0, (1.0,))
        weights, eps = settings.each("weight"), float(settings.shared("eps"))
        if settings.shared("normalize_weights"):
            total = math.fsum(weights)
            if abs(total) < TINY:
                raise MergeFailed(f"{inputs.tensor}: the weights sum to {total:g}; normalize_weights needs another sum")
            weights = [weight / total for weight in weights]
        if sorted(weights) == [0.0] * (len(weights) - 1) + [1.0]:
            return Combination(0.0, tuple(weights))
        span = Span(_on_base(statistics, inputs))
        factors = [weight / (norm + eps) if norm > 0 else 0.0 for weight, norm in zip(weights, span.norms, strict=True)]
        length = span.norm(torch.tensor(factors, dtype=torch.float64))
        if length <= eps:
            if len(weights) == 2 or not any(span.norms):
                return _combination(inputs, weights)
            raise MergeFailed(f"{inputs.tensor}: the weighted directions cancel out; multislerp has no mean")
        scale = math.fsum(w * norm for w, norm in zip(weights, span.norms, strict=True)) * math.cos(eps) / length
        return _combination(inputs, [factor * scale for factor in factors])

    combine = staticmethod(combine)
    fused = staticmethod(fused)


class _Karcher(Arithmetic):
    """The Riemannian mean of the directions, by gradient steps, at the mean length of all inputs."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
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

    combine = staticmethod(combine)
    fused = staticmethod(fused)


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


_SHARE = Parameter(name="weight", per="parent", gene=(0.0, 1.0), doc="share of this model")

NUSLERP = Method(
    name="nuslerp",
    title="Slerp by weights (NuSLERP)",
    formula="base + slerp(x_1 - base, x_2 - base; t = w_2 / (w_1 + w_2)), without base: slerp(x_1, x_2; t)",
    paper="Shoemake 1985, https://doi.org/10.1145/325334.325242, in the form of mergekit's nuslerp",
    base="optional",
    inputs=(2, 2),
    parameters=(
        _SHARE,
        Parameter(name="nuslerp_flatten", per="merge", kind="flag", default=True, doc="one angle for the whole tensor"),
        Parameter(
            name="nuslerp_row_wise",
            per="merge",
            kind="flag",
            default=False,
            doc="without flatten: one angle for each index but the first axis's, instead of each but the last's",
        ),
    ),
    arithmetic=_NuSlerp(),
    passes=2,
)

MULTISLERP = Method(
    name="multislerp",
    title="Spherical mean of many (MultiSLERP)",
    formula="base + sum(w_i |d_i|) * m / |m|, m = sum(w_i d_i / |d_i|), d_i = x_i - base (without base: x_i)",
    paper="Goddard 2024, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    base="optional",
    inputs=(1, None),
    parameters=(
        _SHARE,
        Parameter(name="normalize_weights", per="merge", kind="flag", default=True, doc="divide by the sum of weights"),
        Parameter(name="eps", per="merge", default=1e-8, low=0.0, doc="added to norms before dividing by them"),
    ),
    arithmetic=_MultiSlerp(),
    passes=2,
)

KARCHER = Method(
    name="karcher",
    title="Karcher mean",
    formula="mean(|x_i|) * the unit vector with the least sum of squared angles to all x_i",
    paper="Karcher 1977, https://doi.org/10.1002/cpa.3160300502",
    base="input",
    inputs=(1, None),
    parameters=(
        Parameter(name="max_iter", per="merge", kind="integer", default=10, low=0, doc="largest number of steps"),
        Parameter(name="tol", per="merge", default=1e-5, low=0.0, doc="steps and norms below this end the search"),
    ),
    arithmetic=_Karcher(),
    passes=2,
)
