"""Scores made comparable across item subsets: an additive candidate + item model.

Candidates of different generations are scored on different subsets, and some subsets are easier. The model

    logit p(candidate c is right on item i) = intercept + ability_c + ease_i

(Rasch 1960, with normal priors, so that candidates and items that are always or never right stay finite) is fitted to
all scores of one objective, and a candidate's adjusted score is its expected mean over every item the model knows.
Graded values in [0, 1] enter as fractions. Where values leave [0, 1] (log-likelihoods), the same additive model is
fitted by ridge least squares.

Suffixes: O observations, C candidates, I items, E the effects eliminated and K those kept in a Newton step.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores

_Array = npt.NDArray[np.float64]

_INTERCEPT_SD, _ABILITY_SD, _EASE_SD = 3.0, 1.0, 3.0  # logits: candidates of one search differ less than its items
_RIDGE = 0.01  # least squares: decides only what the data leave open; more would keep subset differences in scores
_STEPS, _HALVINGS, _TOLERANCE = 50, 30, 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEffects:
    """A fitted model. abilities include the intercept; weights are the items' shares in a score."""

    abilities: Mapping[Hashable, float]
    eases: Mapping[int, float]
    weights: Mapping[int, float]
    logistic: bool

    def adjusted(self, candidate: Hashable) -> float:
        """Return the candidate's expected (weighted) mean over all items of the model.

        Raises:
            InvalidInput: the candidate has no item scores in the table.
        """
        if candidate not in self.abilities:
            raise InvalidInput(f"candidate {candidate!r} has no item scores in this model")
        eta_I = self.abilities[candidate] + np.fromiter(self.eases.values(), float, len(self.eases))
        weights_I = np.fromiter(self.weights.values(), float, len(self.weights))
        return float(weights_I @ (_sigmoid(eta_I) if self.logistic else eta_I) / weights_I.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Observations by number of candidate and of item."""

    candidates: tuple[Hashable, ...]
    items: npt.NDArray[np.int64]
    candidate_O: npt.NDArray[np.int64]
    item_O: npt.NDArray[np.int64]
    value_O: _Array
    weight_O: _Array


def item_effects(table: Sequence[tuple[Hashable, ItemScores]]) -> ItemEffects:
    """Fit the model to the item scores of one objective.

    Args:
        table: (candidate, its item scores); a candidate may occur more than once, and items in any subset.

    Raises:
        InvalidInput: no observations, non-finite values, lengths that differ, weights that are not positive.
    """
    data = _tabulate(table)
    logistic = bool(data.value_O.min() >= 0.0 and data.value_O.max() <= 1.0)
    intercept, ability_C, ease_I = _fit(data, logistic)
    counts_I = np.bincount(data.item_O)
    weight_I = np.bincount(data.item_O, data.weight_O) / counts_I
    return ItemEffects(
        abilities={name: float(intercept + a) for name, a in zip(data.candidates, ability_C, strict=True)},
        eases={int(item): float(e) for item, e in zip(data.items, ease_I, strict=True)},
        weights={int(item): float(w) for item, w in zip(data.items, weight_I, strict=True)},
        logistic=logistic,
    )


def _tabulate(table: Sequence[tuple[Hashable, ItemScores]]) -> _Table:
    numbers: dict[Hashable, int] = {}
    for candidate, scores in table:
        numbers.setdefault(candidate, len(numbers))
        lengths = {len(scores.ids), len(scores.values), len(scores.weights or scores.ids)}
        if len(lengths) > 1:
            raise InvalidInput(f"item scores of candidate {candidate!r} have lengths {sorted(lengths)}; expected one")
    sizes = [len(scores.ids) for _, scores in table]
    if not sum(sizes):
        raise InvalidInput("no item scores to fit item effects to")
    items, item_O = np.unique(
        np.concatenate([np.asarray(s.ids, dtype=np.int64) for _, s in table]), return_inverse=True
    )
    value_O = np.concatenate([np.asarray(s.values, dtype=np.float64) for _, s in table])
    weight_O = np.concatenate(
        [np.ones(len(s.ids)) if s.weights is None else np.asarray(s.weights, dtype=np.float64) for _, s in table]
    )
    if not np.isfinite(value_O).all() or not np.isfinite(weight_O).all() or weight_O.min() <= 0:
        raise InvalidInput("item scores must be finite, and their weights positive")
    return _Table(
        candidates=tuple(numbers),
        items=items,
        candidate_O=np.repeat([numbers[candidate] for candidate, _ in table], sizes),
        item_O=item_O,
        value_O=value_O,
        weight_O=weight_O,
    )


def _fit(data: _Table, logistic: bool) -> tuple[float, _Array, _Array]:
    """Maximize the penalized likelihood by Newton steps, halved while they do not improve it."""
    n_C, n_I = len(data.candidates), len(data.items)
    weight_O = data.weight_O / data.weight_O.mean()
    sd = np.concatenate([[_INTERCEPT_SD], np.full(n_C, _ABILITY_SD), np.full(n_I, _EASE_SD)])
    penalty = sd**-2 if logistic else np.concatenate([[0.0], np.full(n_C + n_I, _RIDGE)])
    theta = np.zeros(1 + n_C + n_I)  # intercept, abilities, eases

    def predict(theta: _Array) -> _Array:
        return theta[0] + theta[1 : 1 + n_C][data.candidate_O] + theta[1 + n_C :][data.item_O]

    def objective(theta: _Array) -> float:
        eta = predict(theta)
        loss = np.logaddexp(0.0, eta) - data.value_O * eta if logistic else 0.5 * (data.value_O - eta) ** 2
        return float(weight_O @ loss + 0.5 * penalty @ theta**2)

    current = objective(theta)
    for _ in range(_STEPS):
        eta = predict(theta)
        mean_O = _sigmoid(eta) if logistic else eta
        curvature_O = weight_O * (mean_O * (1.0 - mean_O)) if logistic else weight_O
        residual_O = weight_O * (data.value_O - mean_O)
        step = _newton_step(data, residual_O, curvature_O, theta, penalty)
        for _ in range(_HALVINGS):
            tried = objective(theta + step)
            if tried <= current:
                break
            step = step / 2
        else:
            break  # no step improves it any more: the optimum, up to rounding
        theta, current = theta + step, tried
        if np.abs(step).max() < _TOLERANCE:
            break
    return float(theta[0]), theta[1 : 1 + n_C], theta[1 + n_C :]


def _newton_step(data: _Table, residual_O: _Array, curvature_O: _Array, theta: _Array, penalty: _Array) -> _Array:
    """Solve the Newton system by eliminating the larger of the two groups of effects, whose block is diagonal."""
    n_C, n_I = len(data.candidates), len(data.items)
    cells = np.bincount(data.candidate_O * n_I + data.item_O, curvature_O, n_C * n_I).reshape(n_C, n_I)
    gradient = -penalty * theta
    gradient[0] += residual_O.sum()
    gradient[1 : 1 + n_C] += np.bincount(data.candidate_O, residual_O, n_C)
    gradient[1 + n_C :] += np.bincount(data.item_O, residual_O, n_I)
    first, second = slice(1, 1 + n_C), slice(1 + n_C, None)
    eliminated, kept = (first, second) if n_C >= n_I else (second, first)
    cells_EK = cells if n_C >= n_I else cells.T

    # kept effects and, last, the intercept
    cross = np.column_stack([cells_EK, cells_EK.sum(axis=1)])
    diagonal_E = cells_EK.sum(axis=1) + penalty[eliminated]
    sums_K = cells_EK.sum(axis=0)
    inner = np.diag(np.append(sums_K + penalty[kept], sums_K.sum() + penalty[0]))
    inner[-1, :-1] = inner[:-1, -1] = sums_K
    schur = inner - cross.T @ (cross / diagonal_E[:, None])
    right = np.append(gradient[kept], gradient[0]) - cross.T @ (gradient[eliminated] / diagonal_E)
    solved = np.linalg.solve(schur, right)
    step = np.empty_like(theta)
    step[0], step[kept] = solved[-1], solved[:-1]
    step[eliminated] = (gradient[eliminated] - cross @ solved) / diagonal_E
    return step


def _sigmoid(x: _Array) -> _Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # never overflows
