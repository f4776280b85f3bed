"""MultiSLERP: the mean direction of many models, or of their task vectors, at their mean length (Goddard 2024)."""

import math

import torch

from evomerge.errors import MergeFailed
from evomerge.methods.core import (
    SHARE,
    SMALLEST_SUM,
    Combination,
    Inputs,
    LinearCombination,
    Parameter,
    Settings,
    Span,
    gram_of_averaged,
    on_base,
)
from evomerge.methods.statistics import Statistics


class MultiSlerp(LinearCombination):
    """The weighted mean of unit vectors, renormalized, at the weighted mean length.

    Goddard's construction adds the exponential map of the mean tangent at that point. With the same weights in both
    means the tangents sum to exactly 0, so that what is left of the map is the cosine of `eps`.
    """

    name = "multislerp"
    title = "Spherical mean of many (MultiSLERP)"
    formula = "base + sum(w_i |d_i|) * m / |m|, m = sum(w_i d_i / |d_i|), d_i = x_i - base (without base: x_i)"
    paper = "Goddard 2024, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea"
    base = "optional"
    inputs = (1, None)
    parameters = (
        SHARE,
        Parameter(name="normalize_weights", per="merge", kind="flag", default=True, doc="divide by the sum of weights"),
        Parameter(name="eps", per="merge", default=1e-8, low=0.0, doc="added to norms before dividing by them"),
    )

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        """Return the factor on each model."""
        if len(inputs.models) == 1:
            return Combination(0.0, (1.0,))
        weights, eps = settings.each("weight"), float(settings.shared("eps"))
        if settings.shared("normalize_weights"):
            total = math.fsum(weights)
            if abs(total) < SMALLEST_SUM:
                raise MergeFailed(f"{inputs.tensor}: the weights sum to {total:g}; normalize_weights needs another sum")
            weights = [weight / total for weight in weights]
        if sorted(weights) == [0.0] * (len(weights) - 1) + [1.0]:
            return Combination(0.0, tuple(weights))
        span = Span(gram_of_averaged(statistics, inputs))
        factors = [weight / (norm + eps) if norm > 0 else 0.0 for weight, norm in zip(weights, span.norms, strict=True)]
        length = span.norm(torch.tensor(factors, dtype=torch.float64))
        if length <= eps:
            if len(weights) == 2 or not any(span.norms):
                return on_base(inputs, weights)
            raise MergeFailed(f"{inputs.tensor}: the weighted directions cancel out; multislerp has no mean")
        scale = math.fsum(w * norm for w, norm in zip(weights, span.norms, strict=True)) * math.cos(eps) / length
        return on_base(inputs, [factor * scale for factor in factors])
