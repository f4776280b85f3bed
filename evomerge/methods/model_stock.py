"""Model Stock: how far to go from the base to the mean of the models, from the angle between their task vectors."""

from collections.abc import Sequence

import torch

from evomerge.methods.core import (
    AbsentRule,
    Combination,
    Inputs,
    Linear,
    LinearCombination,
    Parameter,
    Settings,
    Variant,
    by_fiber,
    merge_present,
)
from evomerge.methods.statistics import Statistics

SMALLEST_PRODUCT = 1e-6  # mergekit divides by no smaller product of norms
SINGULAR = 1e-6  # |1 + (N - 1) cos| below which the mean is left out

COSINE = Variant(
    name="cosine",
    options=("floored", "exact"),
    doc="floored: products of norms below 1e-6 count as 1e-6, which shrinks the cosine of tiny task vectors (mergekit);"
    " exact: the cosine (paper)",
)


class ModelStock(LinearCombination):
    """t * mean(x_i) + (1 - t) * base, t = N cos / (1 + (N - 1) cos)  (Jang 2024, eq. 7)."""

    name = "model_stock"
    title = "Model Stock"
    formula = "t mean(x_i) + (1 - t) base, t = N cos / (1 + (N - 1) cos), cos = mean over pairs of task vectors"
    paper = "Jang 2024, https://arxiv.org/abs/2403.19522"
    base = "required"
    inputs = (2, None)
    parameters = (
        Parameter(
            name="filter_wise", per="merge", kind="flag", default=False, doc="one t for each row instead of each tensor"
        ),
    )
    variants = (COSINE,)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Linear:
        """Return the factors from t, of the whole tensor or of each row."""
        exact, count = settings.variant(COSINE) == "exact", len(inputs.models)
        if settings.shared("filter_wise"):
            t = _ratio(statistics.fiber_gram("last")[:, 1:, 1:], exact)
            return by_fiber([t / count] * count, statistics.shape, "last", on_base=True)
        ratio = float(_ratio(statistics.gram()[None, 1:, 1:], exact))
        return Combination(1.0 - ratio, (ratio / count,) * count)

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Leave a tensor out that fewer than two models have."""
        return merge_present(base, models, self.inputs[0], too_few="drop")


def _ratio(gram: torch.Tensor, exact: bool) -> torch.Tensor:
    """Return t, (groups,), from the Gram matrices of task vectors, (groups, N, N)."""
    count = gram.shape[1]
    norms = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    left, right = torch.triu_indices(count, count, offset=1).unbind()
    products = (norms[:, left] * norms[:, right]).clamp(min=1e-300 if exact else SMALLEST_PRODUCT)
    cosine = (gram[:, left, right] / products).clamp(-1, 1).mean(1)
    denominator = 1 + (count - 1) * cosine
    return torch.where(denominator.abs() < SINGULAR, 0.0, count * cosine / denominator)
