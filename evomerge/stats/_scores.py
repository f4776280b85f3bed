"""One objective's score from its items, with its standard error or interval."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores, Score
from evomerge.stats._set_metrics import cluster_numbers, set_sums


def mean_and_stderr(values: Sequence[float], weights: Sequence[float] | None = None) -> Score:
    """Return the (weighted) mean of the items, its standard error and their number.

    The standard error is the sample one, sqrt(sum (v - mean)^2 / (n (n - 1))), which for 0/1 items is the binomial one
    up to n - 1 for n; with weights it is that of a ratio estimate (Cochran 1977, sec. 2.11, without the finite
    population correction). A single item tells nothing about its spread: the standard error is then 0, beside n = 1.

    Args:
        values: finite, at least one.
        weights: one per value, not negative, not all 0; None for equal weights.

    Raises:
        InvalidInput: any of that is violated.
    """
    v = _finite("value", values)
    w = np.ones_like(v) if weights is None else _finite("weight", weights)
    if len(v) == 0:
        raise InvalidInput("no items to average; expected at least one")
    if len(w) != len(v):
        raise InvalidInput(f"{len(w)} weights for {len(v)} values; expected one each")
    if w.min() < 0 or w.sum() <= 0:
        raise InvalidInput("item weights must not be negative, and not all 0")
    n = len(v)
    mean = float(w @ v / w.sum())
    squares = float(w**2 @ (v - mean) ** 2)
    stderr = math.sqrt(squares * n / (n - 1)) / float(w.sum()) if n > 1 else 0.0
    return Score(value=mean, stderr=stderr, n=n)


def score_of(items: ItemScores) -> Score:
    """Return the score of some items: their (weighted) mean, or the metric of the whole set with the jackknife's error.

    Raises:
        InvalidInput: as `mean_and_stderr` and `set_sums`.
    """
    if items.parts is None:
        return mean_and_stderr(items.values, items.weights)
    (sums,) = set_sums([items])
    return Score(value=sums.value, stderr=sums.stderr(), n=len(items.ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreInterval:
    """One model's score and its interval.

    Attributes:
        value: (weighted) mean over the items.
        low: lower end, at most `value`.
        high: upper end, at least `value`.
        level: nominal coverage.
        name: "Wilson" (0/1 items of equal weight), "normal" (mean and standard error; as wide as
            Wilson's where all items are equal), "jackknife" (metric of a set) or "exact" (without error).
    """

    value: float
    low: float
    high: float
    level: float
    name: str


def wilson_interval(right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval for a proportion (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953).

    With p = right / n and the normal quantile z, its ends are

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    It stays inside [0, 1] and has a width also where all items are right or all wrong.

    Args:
        right: number of items that are right, from 0 to n.
        n: number of items, at least 1; a fraction where items that belong together count less.
        level: coverage, in (0, 1).

    Returns:
        The lower and the upper end.

    Raises:
        InvalidInput: any of that is violated.
    """
    if n < 1 or not 0 <= right <= n or not 0 < level < 1:
        raise InvalidInput(f"{right} right of {n} items at level {level}; expected 0 to n items and a level in (0, 1)")
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = right / n
    middle = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    return max(0.0, min(low, p)), min(1.0, max(high, p))


def score_interval(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    level: float = 0.95,
    clusters: Sequence[Hashable] | None = None,
) -> ScoreInterval:
    """Return one model's score with its interval: Wilson's for 0/1 items of equal weight, else mean -+ z stderr.

    Where items belong together, the standard error is that of the clusters' sums (Cochran 1977, sec. 9A.3), and
    Wilson's interval is that of the number of independent items with the same standard error, at least the number of
    clusters where all items agree (Franco, Little, Louis & Slud 2019, https://doi.org/10.1093/jssam/smy019).

    Graded items that are all equal, or all of one cluster, say nothing of their spread. The width is then that of
    Wilson's interval where all items agree, on the range that the scores may have: [0, 1], or without such bounds as
    wide as their size or spread.

    Args:
        values: finite, at least one.
        weights: one per value, not negative, not all 0; None for equal weights.
        level: coverage, in (0, 1).
        clusters: one per value, those of items that belong together being equal; None = all items are independent.

    Raises:
        InvalidInput: any of that is violated.
    """
    score = mean_and_stderr(values, weights)
    if not 0 < level < 1:
        raise InvalidInput(f"level {level}; expected a level in (0, 1)")
    stderr, n = score.stderr, float(score.n)
    if clusters is not None and len(set(clusters)) < score.n:
        stderr, n = _clustered(values, weights, clusters, score)
    if all(value in (0, 1) for value in values) and (weights is None or len(set(weights)) == 1):
        low, high = wilson_interval(score.value * n, n, level)
        return ScoreInterval(value=score.value, low=low, high=high, level=level, name="Wilson")
    z = NormalDist().inv_cdf((1 + level) / 2)
    half, lowest, highest = z * stderr, -math.inf, math.inf
    if stderr == 0 or min(values) == max(values):
        half, lowest, highest = _without_spread(min(values), max(values), n, z)
    low, high = max(lowest, score.value - half), min(highest, score.value + half)
    return ScoreInterval(value=score.value, low=low, high=high, level=level, name="normal")


def _without_spread(low: float, high: float, n: float, z: float) -> tuple[float, float, float]:
    """Return half the width of an interval whose items say nothing of their spread, and the ends it stays within.

    Args:
        low: the lowest value.
        high: the highest one.
        n: number of independent items.
        z: normal quantile of the level.
    """
    share = z**2 / (n + z**2)  # Wilson's width where all items agree, of a range of 1
    if low >= 0 and high <= 1:
        return share, 0.0, 1.0
    return share * ((high - low) or abs(high)), -math.inf, math.inf


def interval_of(
    items: ItemScores,
    level: float = 0.95,
    cluster_of: Mapping[int, Hashable] | None = None,
    *,
    exact: bool = False,
) -> ScoreInterval:
    """Return the score of some items with its interval (see `score_interval`).

    That of a metric of the whole set is its value -+ z times the jackknife's standard error, over clusters where there
    are some, and within the bounds that all of its values share. Where no item makes a difference (all wrong, say),
    that error is 0 and says nothing: the width is then that of Wilson's interval where all items agree, on the metric's
    range.

    Args:
        items: of one model.
        level: coverage, in (0, 1).
        cluster_of: item -> its cluster; items that are absent, or all without it, are independent.
        exact: whether the score has no error, such as a number of layers: the interval is the value.

    Raises:
        InvalidInput: as `score_interval` and `set_sums`.
    """
    if exact:
        value = score_of(items).value
        return ScoreInterval(value=value, low=value, high=value, level=level, name="exact")
    if items.parts is None:
        clusters = None if not cluster_of else cluster_numbers(items.ids, cluster_of).tolist()
        return score_interval(items.values, items.weights, level, clusters)
    (sums,) = set_sums([items], cluster_of)
    z, stderr = NormalDist().inv_cdf((1 + level) / 2), sums.stderr()
    value, half = sums.value, z * stderr
    low, high = sorted(sums.sign * end for end in sums.metric.bounds)
    if stderr == 0 and math.isfinite(high - low):
        half = (high - low) * z**2 / (len(sums.sums_MK) + z**2)
    return ScoreInterval(
        value=value, low=max(low, value - half), high=min(high, value + half), level=level, name="jackknife"
    )


def _clustered(
    values: Sequence[float], weights: Sequence[float] | None, clusters: Sequence[Hashable], score: Score
) -> tuple[float, float]:
    """Return the standard error over clusters, and the number of independent 0/1 items that would have it.

    Raises:
        InvalidInput: not one cluster for each value.
    """
    if len(clusters) != len(values):
        raise InvalidInput(f"{len(clusters)} clusters for {len(values)} values; expected one each")
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    numbers: dict[Hashable, int] = {}
    cluster = [numbers.setdefault(name, len(numbers)) for name in clusters]
    sums = np.bincount(cluster, w * (np.asarray(values, dtype=np.float64) - score.value))
    m = len(numbers)
    stderr = math.sqrt(float(sums @ sums) * m / (m - 1)) / float(w.sum()) if m > 1 else 0.0
    spread = score.value * (1 - score.value)
    independent = spread / stderr**2 if stderr > 0 else float(m)
    return stderr, min(float(score.n), max(1.0, independent))


def _finite(what: str, numbers: Sequence[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(numbers, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise InvalidInput(f"{what} {bad[0]} is {array[bad[0]]}; expected finite numbers")
    return array
