"""Scores made comparable across item subsets: an additive candidate + item model.

Candidates of different generations are scored on different subsets, and some subsets are easier. The model

    logit p(candidate c is right on item i) = intercept + ability_c + easiness_i

(Rasch 1960, "Probabilistic models for some intelligence and attainment tests", with normal priors, so that candidates
and items that are always or never right stay finite) is fitted to all scores of one objective by maximizing the
penalized likelihood

    sum over observations of weight (y eta - log(1 + exp eta))  -  1/2 sum over effects of (effect / sd)^2

and a candidate's adjusted score is its expected mean over every item that the model knows. Graded values in [0, 1]
enter as fractions. Where values leave [0, 1] (log-likelihoods), the same additive model is fitted by ridge least
squares.

A Newton step eliminates the larger of the two groups of effects, whose block is diagonal. What remains is solved as a
dense system where it is small, and else by conjugate gradients over the observations alone (Hestenes & Stiefel 1952,
https://doi.org/10.6028/jres.049.044), so that time and memory grow with the number of observations: 10,000 candidates
with 64 of 20,000 items each take 2 s (least squares) to 5 s (logistic) on one core. The optimum is the same, because
the outer steps see the exact gradient.

Suffixes: O observations, C candidates, I items, E the effects eliminated and K those kept in a Newton step.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores

_Array = npt.NDArray[np.float64]

# logits: candidates of one search differ less than its items
_INTERCEPT_SD, _ABILITY_SD, _EASINESS_SD = 3.0, 1.0, 3.0
_RIDGE = 0.01  # least squares: decides only what the data leave open; more would keep subset differences in scores
_MAX_STEPS, _MAX_HALVINGS, _TOLERANCE = 50, 30, 1e-8
_MAX_DENSE_EFFECTS = 1024  # kept in a step; their system has as many rows and columns
_MAX_DENSE_CELLS = 1 << 22  # candidates x items of the table that a dense step fills
_CG_TOLERANCE = 1e-5  # of a step's residual, relative; what it leaves is corrected by the next step
_MAX_CG_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class ItemEffects:
    """A fitted model.

    Attributes:
        abilities: candidate -> its ability, the intercept included; in logits if `logistic`.
        easiness: item -> its easiness, in the same unit; higher: more candidates are right on it.
        weights: item -> its share in a score, up to a common factor.
        logistic: whether values are probabilities; else the model is linear in the values themselves.
    """

    abilities: Mapping[Hashable, float]
    easiness: Mapping[int, float]
    weights: Mapping[int, float]
    logistic: bool

    @cached_property
    def _items(self) -> tuple[_Array, _Array]:
        """Easiness and weight of every item, in one order, each of shape (items,)."""
        return (
            np.fromiter(self.easiness.values(), float, len(self.easiness)),
            np.fromiter((self.weights[item] for item in self.easiness), float, len(self.easiness)),
        )

    def adjusted(self, candidate: Hashable) -> float:
        """Return the candidate's expected (weighted) mean over all items of the model.

        Raises:
            InvalidInput: the candidate has no item scores in the table.
        """
        if candidate not in self.abilities:
            raise InvalidInput(f"candidate {candidate!r} has no item scores in this model")
        easiness_I, weights_I = self._items
        eta_I = self.abilities[candidate] + easiness_I
        return float(weights_I @ (sigmoid(eta_I) if self.logistic else eta_I) / weights_I.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Observations by number of candidate and of item.

    Attributes:
        candidates: number -> candidate.
        items: number -> item, shape (items,).
        candidate_O: number of each observation's candidate.
        item_O: number of each observation's item.
        value_O: what the candidate scored.
        weight_O: of the observation, positive.
    """

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
    data = tabulate(table)
    logistic = bool(data.value_O.min() >= 0.0 and data.value_O.max() <= 1.0)
    intercept, ability_C, easiness_I = _fit(data, logistic)
    counts_I = np.bincount(data.item_O)
    weight_I = np.bincount(data.item_O, data.weight_O) / counts_I
    return ItemEffects(
        abilities={name: float(intercept + a) for name, a in zip(data.candidates, ability_C, strict=True)},
        easiness={int(item): float(e) for item, e in zip(data.items, easiness_I, strict=True)},
        weights={int(item): float(w) for item, w in zip(data.items, weight_I, strict=True)},
        logistic=logistic,
    )


def tabulate(table: Sequence[tuple[Hashable, ItemScores]]) -> Table:
    """Number the candidates and items of a table.

    Raises:
        InvalidInput: no observations, non-finite values, lengths that differ, weights that are not positive.
    """
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
    return Table(
        candidates=tuple(numbers),
        items=items,
        candidate_O=np.repeat([numbers[candidate] for candidate, _ in table], sizes),
        item_O=item_O,
        value_O=value_O,
        weight_O=weight_O,
    )


def _fit(data: Table, logistic: bool) -> tuple[float, _Array, _Array]:
    """Maximize the penalized likelihood by Newton steps, halved while they do not improve it."""
    n_C, n_I = len(data.candidates), len(data.items)
    weight_O = data.weight_O / data.weight_O.mean()
    sd = np.concatenate([[_INTERCEPT_SD], np.full(n_C, _ABILITY_SD), np.full(n_I, _EASINESS_SD)])
    penalty = sd**-2 if logistic else np.concatenate([[0.0], np.full(n_C + n_I, _RIDGE)])
    theta = np.zeros(1 + n_C + n_I)  # intercept, abilities, easiness

    def predict(theta: _Array) -> _Array:
        return theta[0] + theta[1 : 1 + n_C][data.candidate_O] + theta[1 + n_C :][data.item_O]

    def objective(theta: _Array) -> float:
        eta = predict(theta)
        loss = np.logaddexp(0.0, eta) - data.value_O * eta if logistic else 0.5 * (data.value_O - eta) ** 2
        return float(weight_O @ loss + 0.5 * penalty @ theta**2)

    current = objective(theta)
    for _ in range(_MAX_STEPS):
        eta = predict(theta)
        mean_O = sigmoid(eta) if logistic else eta
        curvature_O = weight_O * (mean_O * (1.0 - mean_O)) if logistic else weight_O
        residual_O = weight_O * (data.value_O - mean_O)
        step = _newton_step(data, residual_O, curvature_O, theta, penalty)
        for _ in range(_MAX_HALVINGS):
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


def _newton_step(data: Table, residual_O: _Array, curvature_O: _Array, theta: _Array, penalty: _Array) -> _Array:
    """Solve the Newton system by eliminating the larger of the two groups of effects, whose block is diagonal.

    Args:
        data: the observations.
        residual_O: weight times (value - expected value).
        curvature_O: weight times the variance of the value, or the weight itself in least squares.
        theta: intercept, abilities, easiness.
        penalty: of each of these.

    Returns:
        What to add to `theta`.
    """
    n_C, n_I = len(data.candidates), len(data.items)
    gradient = -penalty * theta
    gradient[0] += residual_O.sum()
    gradient[1 : 1 + n_C] += np.bincount(data.candidate_O, residual_O, n_C)
    gradient[1 + n_C :] += np.bincount(data.item_O, residual_O, n_I)
    first, second = slice(1, 1 + n_C), slice(1 + n_C, None)
    eliminated, kept = (first, second) if n_C >= n_I else (second, first)
    dense = min(n_C, n_I) <= _MAX_DENSE_EFFECTS and n_C * n_I <= _MAX_DENSE_CELLS
    solve = _dense_step if dense else _sparse_step
    solved_E, solved_K = solve(
        data, curvature_O, gradient[eliminated], np.append(gradient[kept], gradient[0]),
        penalty[eliminated], np.append(penalty[kept], penalty[0]),
    )  # fmt: skip
    step = np.empty_like(theta)
    step[0], step[kept], step[eliminated] = solved_K[-1], solved_K[:-1], solved_E
    return step


def _dense_step(
    data: Table, curvature_O: _Array, gradient_E: _Array, gradient_K: _Array, penalty_E: _Array, penalty_K: _Array
) -> tuple[_Array, _Array]:
    """Return the step of the eliminated effects and of the kept ones; the last of the latter is the intercept."""
    n_C, n_I = len(data.candidates), len(data.items)
    cells = np.bincount(data.candidate_O * n_I + data.item_O, curvature_O, n_C * n_I).reshape(n_C, n_I)
    cells_EK = cells if n_C >= n_I else cells.T
    cross = np.column_stack([cells_EK, cells_EK.sum(axis=1)])
    diagonal_E = cells_EK.sum(axis=1) + penalty_E
    sums_K = cells_EK.sum(axis=0)
    inner = np.diag(np.append(sums_K + penalty_K[:-1], sums_K.sum() + penalty_K[-1]))
    inner[-1, :-1] = inner[:-1, -1] = sums_K
    schur = inner - cross.T @ (cross / diagonal_E[:, None])
    right = gradient_K - cross.T @ (gradient_E / diagonal_E)
    solved = np.linalg.solve(schur, right)
    return (gradient_E - cross @ solved) / diagonal_E, solved


def _sparse_step(
    data: Table, curvature_O: _Array, gradient_E: _Array, gradient_K: _Array, penalty_E: _Array, penalty_K: _Array
) -> tuple[_Array, _Array]:
    """Do as `_dense_step` does, up to the tolerance of conjugate gradients, without a table of all cells."""
    from scipy.sparse import coo_array  # heavy, and only large tables need it

    n_C, n_I = len(data.candidates), len(data.items)
    row_O, column_O = (data.candidate_O, data.item_O) if n_C >= n_I else (data.item_O, data.candidate_O)
    cells_EK = coo_array((curvature_O, (row_O, column_O)), shape=(max(n_C, n_I), min(n_C, n_I))).tocsr()
    cells_KE = cells_EK.T.tocsr()
    sums_E, sums_K = cells_EK.sum(axis=1), cells_EK.sum(axis=0)
    diagonal_E = sums_E + penalty_E
    diagonal_K = np.append(sums_K, sums_K.sum()) + penalty_K

    def down(x_K: _Array) -> _Array:
        return cells_EK @ x_K[:-1] + sums_E * x_K[-1]

    def up(x_E: _Array) -> _Array:
        return np.append(cells_KE @ x_E, sums_E @ x_E)

    def schur(x_K: _Array) -> _Array:
        inner = diagonal_K * x_K
        inner[:-1] += sums_K * x_K[-1]
        inner[-1] += sums_K @ x_K[:-1]
        return inner - up(down(x_K) / diagonal_E)

    solved = _conjugate_gradients(schur, gradient_K - up(gradient_E / diagonal_E), diagonal_K)
    return (gradient_E - down(solved)) / diagonal_E, solved


def _conjugate_gradients(apply: Callable[[_Array], _Array], right: _Array, diagonal: _Array) -> _Array:
    """Solve a symmetric positive definite system, preconditioned by its diagonal, to a relative residual."""
    x = np.zeros_like(right)
    residual = right.copy()
    scaled = residual / diagonal
    direction = scaled
    energy = float(residual @ scaled)
    goal = energy * _CG_TOLERANCE**2
    for _ in range(_MAX_CG_ITERATIONS):
        if energy <= goal:
            break
        image = apply(direction)
        length = energy / float(direction @ image)
        x = x + length * direction
        residual = residual - length * image
        scaled = residual / diagonal
        previous, energy = energy, float(residual @ scaled)
        direction = scaled + energy / previous * direction
    return x


def sigmoid(x: _Array) -> _Array:
    """Return the logistic function."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # never overflows
