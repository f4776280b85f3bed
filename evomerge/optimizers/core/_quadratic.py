"""Where a quadratic that is fitted to all answers has its optimum.

With hundreds of workers there are few generations, and the mean of a distribution moves by at most about its width in
each. A quadratic, fitted to every answer by ridge regression, uses the values themselves: 2,500 answers in 21
coordinates are ten generations of 256 workers, but ten times what a full quadratic needs. It is the model of lq-CMA-ES
(Hansen 2019, https://doi.org/10.1145/3321707.3321842) with three differences that noise asks for: a value counts only
in comparison with its own generation, whose items it shares; the strength of the ridge, and whether products of
coordinates are in the model, are chosen by generalized cross-validation (Golub, Heath & Wahba 1979); and a model that
does not predict is not used.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evomerge.optimizers.core._domain import Vector

MAX_ANSWERS = 2048  # the latest, that a model is fitted to: about 0.2 s in 21 coordinates
MAX_TERMS = 600  # of a model with products; 33 coordinates
ANSWERS_PER_TERM = 1.3  # without fewer, products are left out
MIN_ANSWERS_PER_COORDINATE = 4
MIN_EXPLAINED = 0.2  # share of the variance of unseen answers that a model must predict
RIDGES = 10.0 ** np.arange(-8, 2)  # per answer

_Matrix = npt.NDArray[np.float64]
_Groups = npt.NDArray[np.intp]


class _Fit(NamedTuple):
    """A model in standardized coordinates.

    Attributes:
        error: what generalized cross-validation expects of a new answer, squared.
        slope: (size,) at the origin.
        hessian: (size, size).
    """

    error: float
    slope: Vector
    hessian: _Matrix


class QuadraticModel:
    """The latest answers, and the quadratic through them."""

    def __init__(self, size: int) -> None:
        """Begin without answers.

        Args:
            size: coordinates of a vector, all in [0, 1].
        """
        self._size = size
        self._answers: deque[tuple[int, Vector, float]] = deque(maxlen=MAX_ANSWERS)
        self._count = self._fitted = 0
        self._optimum: Vector | None = None

    def add(self, generation: int, vector: Vector, value: float) -> None:
        """Note an answer.

        Args:
            generation: whose answers it may be compared with.
            vector: (size,) where.
            value: higher is better.
        """
        self._answers.append((generation, vector, value))
        self._count += 1

    def optimum(self) -> Vector | None:
        """Return the best point of the model within its trust region, (size,), or None where it predicts nothing."""
        if self._fitted != self._count:
            self._fitted, self._optimum = self._count, self._fit()
        return self._optimum

    def _fit(self) -> Vector | None:
        if len(self._answers) < MIN_ANSWERS_PER_COORDINATE * self._size:
            return None
        vectors = np.array([vector for _, vector, _ in self._answers])
        values = np.array([value for _, _, value in self._answers])
        groups: _Groups = np.unique([generation for generation, _, _ in self._answers], return_inverse=True)[1]
        center, spread = vectors.mean(axis=0), np.maximum(vectors.std(axis=0), 1e-12)
        standardized = (vectors - center) / spread
        values = _centered(values, groups)
        variance = float(values @ values) / max(1, len(values) - groups.max() - 1)
        if not variance > 0:
            return None
        fits = [_fitted(standardized, values, groups, products=products) for products in (False, True)]
        best = min((fit for fit in fits if fit is not None), key=lambda fit: fit.error, default=None)
        if best is None or best.error > (1 - MIN_EXPLAINED) * variance:
            return None
        # Answers lie about sqrt(size) from their center: no further than that does the model say anything.
        step = _best_within(best.slope, best.hessian, math.sqrt(self._size))
        return np.asarray(np.clip(center + spread * step, 0.0, 1.0))


def _fitted(points: _Matrix, values: Vector, groups: _Groups, *, products: bool) -> _Fit | None:
    """Return the ridge regression of centered values with the best strength, or None for too few answers."""
    count, size = points.shape
    first, second = np.triu_indices(size, 1)
    terms = 2 * size + (len(first) if products else 0)
    if products and (terms > MAX_TERMS or count < ANSWERS_PER_TERM * (terms + groups.max() + 1)):
        return None
    parts = [points, (points**2 - 1) / math.sqrt(2)]
    if products:
        parts.append(points[:, first] * points[:, second])
    u, singular, vt = np.linalg.svd(_centered(np.hstack(parts), groups), full_matrices=False)
    along = u.T @ values
    rest = max(0.0, float(values @ values - along @ along))
    best: tuple[float, Vector] | None = None
    for ridge in RIDGES * count:
        kept = singular**2 / (singular**2 + ridge)
        freedom = count - float(kept.sum()) - groups.max() - 1
        if freedom <= 1:
            continue
        error = count * (rest + float(np.sum(((1 - kept) * along) ** 2))) / freedom**2
        if best is None or error < best[0] * (1 - 1e-9):  # near ties must not depend on rounding
            best = (error, vt.T @ (singular / (singular**2 + ridge) * along))
    if best is None:
        return None
    error, terms_of = best
    hessian = np.diag(math.sqrt(2) * terms_of[size : 2 * size])
    if products:
        hessian[first, second] = hessian[second, first] = terms_of[2 * size :]
    return _Fit(error, terms_of[:size], hessian)


def _centered(values: npt.NDArray[np.float64], groups: _Groups) -> npt.NDArray[np.float64]:
    """Return values, or rows, less the mean of their group."""
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(sums, groups, values)
    return np.asarray(values - (sums / counts.reshape(-1, *[1] * (values.ndim - 1)))[groups])


def _best_within(slope: Vector, hessian: _Matrix, radius: float) -> Vector:
    """Return the x, |x| <= radius, of the largest slope . x + x . hessian . x / 2."""
    bends, axes = np.linalg.eigh(-hessian)
    along = axes.T @ slope
    low = max(0.0, -float(bends[0])) + 1e-9 * float(np.abs(bends).max()) + 1e-300

    def length(shift: float) -> float:
        return float(np.linalg.norm(along / (bends + shift)))

    if length(low) > radius:
        high = low + float(np.linalg.norm(along)) / radius
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if length(middle) > radius else (low, middle)
        low = high
    return np.asarray(axes @ (along / (bends + low)))
