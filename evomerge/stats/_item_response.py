"""Scores made comparable across item subsets: an item-response model in which a merge is a mixture of its parents.

MERGE^3 (Mencattini et al. 2025, https://arxiv.org/abs/2502.10436) assumes that a merge's ability is a linear
combination of its parents' abilities (mp-IRT). Its item parameters come from a leaderboard's models, which no task of
one's own has; here they are fitted to the run's own scores. With the parents' abilities as unit vectors, which only
fixes the basis, the model is

    logit p(candidate c is right on item i) = easiness_i + sum over parents m of mixture_cm discrimination_im

with mixture_c fixed to a unit vector for parent c, and else near equal parts: a normal prior around 1 / (parents).
Discriminations have a normal prior around one common value, easiness one around 0. Both halves are convex, so a few
Newton steps in turn find a mode.

A candidate's estimated score is that of the items it saw, and the model's for those that it did not:

    (n/N) mean of seen + (1 - n/N) mean of p over unseen

Suffixes: O observations, C candidates, I items, M parents, D = M + 1 parameters of an item.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores
from evomerge.stats._item_effects import Table, sigmoid, tabulate

_Array = npt.NDArray[np.float64]

_EASINESS_SD, _DISCRIMINATION_SD, _MIXTURE_SD = 3.0, 1.5, 1.0
_ROUNDS, _STEPS = 12, 2  # of both halves in turn, and Newton steps in each
_MAX_STEP = 2.0  # of one parameter: logistic Newton steps overshoot far from the mode


@dataclass(frozen=True, kw_only=True)
class ItemResponse:
    """A fitted model.

    Attributes:
        scores: candidate -> its estimated (weighted) mean over every item of the table.
        mixtures: candidate -> share of each parent in its ability, in the order of the parents.
    """

    scores: Mapping[Hashable, float]
    mixtures: Mapping[Hashable, tuple[float, ...]]

    def adjusted(self, candidate: Hashable) -> float:
        """Return a candidate's estimated mean over all items.

        Raises:
            InvalidInput: the candidate has no item scores in the table.
        """
        if candidate not in self.scores:
            raise InvalidInput(f"candidate {candidate!r} has no item scores in this model")
        return self.scores[candidate]


def item_response(table: Sequence[tuple[Hashable, ItemScores]], parents: Sequence[Hashable]) -> ItemResponse:
    """Fit the model to the item scores of one objective.

    Args:
        table: (candidate, its item scores), each candidate once.
        parents: those of the candidates that are parents, at least one.

    Raises:
        InvalidInput: no observations, values that leave 0 to 1, no parent among the candidates.
    """
    data = tabulate(table)
    if data.value_O.min() < 0.0 or data.value_O.max() > 1.0:
        raise InvalidInput("an item-response model takes item scores from 0 to 1")
    rows = {name: row for row, name in enumerate(data.candidates)}
    known = [rows[parent] for parent in dict.fromkeys(parents) if parent in rows]
    if not known:
        raise InvalidInput("an item-response model needs the item scores of at least one parent")
    mixture_CM = np.full((len(data.candidates), len(known)), 1.0 / len(known))
    mixture_CM[known] = np.eye(len(known))
    free_C = np.ones(len(data.candidates), dtype=bool)
    free_C[known] = False
    item_ID = _fit(data, mixture_CM, free_C)
    return ItemResponse(
        scores=_scores(data, mixture_CM, item_ID),
        mixtures={name: tuple(mixture_CM[row].tolist()) for name, row in rows.items()},
    )


def _fit(data: Table, mixture_CM: _Array, free_C: npt.NDArray[np.bool_]) -> _Array:
    """Fit items and mixtures in turn; mixtures are changed in place.

    Returns:
        (items, 1 + parents) easiness and discriminations.
    """
    n_I, parents = len(data.items), mixture_CM.shape[1]
    weight_O = data.weight_O / data.weight_O.mean()
    item_ID = np.zeros((n_I, 1 + parents))
    prior_D = np.concatenate([[_EASINESS_SD**-2], np.full(parents, _DISCRIMINATION_SD**-2)])
    common = np.zeros(1 + parents)
    equal_M = np.full(parents, 1.0 / parents)
    prior_M = np.full(parents, _MIXTURE_SD**-2)
    for _ in range(_ROUNDS):
        for _ in range(_STEPS):
            input_OD = np.column_stack([np.ones(len(data.item_O)), mixture_CM[data.candidate_O]])
            offset_O = np.zeros(len(data.item_O))
            _newton(item_ID, data.item_O, input_OD, offset_O, data.value_O, weight_O, common, prior_D)
        common = np.concatenate([[0.0], item_ID[:, 1:].mean(axis=0)])
        for _ in range(_STEPS):
            before_CM = mixture_CM.copy()
            input_OM, offset_O = item_ID[data.item_O, 1:], item_ID[data.item_O, 0]
            _newton(mixture_CM, data.candidate_O, input_OM, offset_O, data.value_O, weight_O, equal_M, prior_M)
            mixture_CM[~free_C] = before_CM[~free_C]
    return item_ID


def _newton(
    parameter_GD: _Array,
    group_O: npt.NDArray[np.int64],
    input_OD: _Array,
    offset_O: _Array,
    value_O: _Array,
    weight_O: _Array,
    prior_mean_D: _Array,
    precision_D: _Array,
) -> None:
    """Make one damped Newton step in each group's own logistic regression, in place."""
    groups, size = parameter_GD.shape
    mean_O = sigmoid(offset_O + np.einsum("od,od->o", input_OD, parameter_GD[group_O]))
    residual_O, curvature_O = weight_O * (value_O - mean_O), weight_O * mean_O * (1.0 - mean_O)
    gradient_GD = -precision_D * (parameter_GD - prior_mean_D)
    hessian_GDD = np.tile(np.diag(precision_D), (groups, 1, 1))
    for d in range(size):
        gradient_GD[:, d] += np.bincount(group_O, residual_O * input_OD[:, d], groups)
        for e in range(d + 1):
            total_G = np.bincount(group_O, curvature_O * input_OD[:, d] * input_OD[:, e], groups)
            hessian_GDD[:, d, e] += total_G
            if e != d:
                hessian_GDD[:, e, d] += total_G
    step_GD = np.linalg.solve(hessian_GDD, gradient_GD[:, :, None])[:, :, 0]
    parameter_GD += np.clip(step_GD, -_MAX_STEP, _MAX_STEP)


def _scores(data: Table, mixture_CM: _Array, item_ID: _Array) -> dict[Hashable, float]:
    """Return each candidate's mean: its own scores on the items that it saw, the model's on the others."""
    weight_I = np.bincount(data.item_O, data.weight_O) / np.bincount(data.item_O)
    order_O = np.argsort(data.candidate_O, kind="stable")
    starts = np.searchsorted(data.candidate_O[order_O], np.arange(len(data.candidates) + 1))
    found = {}
    for row, name in enumerate(data.candidates):
        own_O = order_O[starts[row] : starts[row + 1]]
        expected_I = sigmoid(item_ID[:, 0] + item_ID[:, 1:] @ mixture_CM[row])
        expected_I[data.item_O[own_O]] = data.value_O[own_O]
        found[name] = float(weight_I @ expected_I / weight_I.sum())
    return found
