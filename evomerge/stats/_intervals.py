"""How much better one candidate is than another on the same items, with an interval.

Paired bootstrap (Efron & Tibshirani 1993): items are resampled with replacement within each objective, the same for
both candidates, and the objectives' weighted mean is taken. Plain percentile intervals are dishonest where most items
tie: four wins, no loss and 46 ties give a lower end above 0, though a coin does that one time in eight. Hence each
objective is resampled with two more items, a win and a loss of the largest size seen (the adjustment of Bonett & Price
2012, https://doi.org/10.3102/1076998611411915, for paired proportions, here for any item scores); six wins and no loss
are then needed, which is also where the exact sign test turns. The reported gain is that of the items themselves.

Measured, nominal 95%, 20,000 simulations each, 0/1 items, n 50 to 500, win rates 0.02 to 0.3 and loss rates 0 to 0.2:
this interval covers 94.7 to 100% (92.9% where one item in fifty is won, none lost and n is 500), and its lower end, on
which a claim rests, is above the truth in at most 2.4%. Plain percentile intervals cover 64 to 99%, BCa 63 to 98%,
studentized 62 to 97% (lower end above the truth in up to 11%).

Items that belong together (questions on one passage) are not independent: resampled one by one, groups of ten with a
strong common effect covered 78% where 95% was promised. Where a cluster is given for each item, whole clusters are
resampled (Davison & Hinkley 1997, sec. 3.8), and the win and the loss that are added are clusters too. Measured, 600
simulations each, nominal 95%, 8 to 60 clusters of 10 or of 1 to 19 items that differ: they cover 94.7 to 98%, and the
lower end is above the truth in at most 2.5%; the same items resampled one by one cover 47 to 83%.

A metric of the whole set, such as BLEU, has no differences to average: the resampled items' own sums go through the
metric (Koehn 2004, https://aclanthology.org/W04-3250), for both candidates with the same draw. The win and the loss are
the item on which the two differ most, as it is and with the candidates exchanged.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores
from evomerge.stats._set_metrics import SetSums, cluster_numbers, extended_pair, set_sums

_Array = npt.NDArray[np.float64]
_MAX_CELLS = 1 << 22  # of a block of resamples: bounds the memory to tens of megabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A gain over another candidate, and its interval.

    Attributes:
        gain: positive: the first candidate is better.
        low: lower end, at most `gain`.
        high: upper end, at least `gain`.
        level: nominal coverage.
        p_value: one-sided, of a gain above 0: the share of resamples without one, at least 1 / (resamples + 1).
    """

    gain: float
    low: float
    high: float
    level: float = 0.95
    p_value: float = 1.0


def paired_interval(
    a: Mapping[str, ItemScores],
    b: Mapping[str, ItemScores],
    weights: Mapping[str, float],
    *,
    seed: int,
    scale: Mapping[str, float] | None = None,
    clusters: Mapping[str, Mapping[int, Hashable]] | None = None,
    same_items: Mapping[str, Hashable] | None = None,
    exact: Collection[str] = (),
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Return the gain of `a` over `b` in the weighted mean of the objectives.

    Args:
        a: objective -> item scores of the first candidate.
        b: the same of the second, on the same items of every objective in `weights`; other objectives are ignored.
        weights: objective -> share, not negative, not all 0; normalized to sum to 1.
        seed: of the resampling; the result depends on nothing else random, nor on the order of the mappings.
        scale: objective -> factor of its item scores before weighting; 1 where absent.
        clusters: objective -> item -> its cluster; an item or objective that is absent is independent of all others.
        same_items: objective -> what its items are items of; objectives for which it is equal, such as two metrics of
            one task, are resampled alike. Absent objectives share their items with none.
        exact: objectives without any error, such as a number of layers: their difference counts as it is.
        level: coverage of the interval, in (0, 1).
        resamples: number of resamples.

    Raises:
        InvalidInput: an objective is missing; items or their weights differ; invalid weights, level or resamples.
    """
    total = sum(weights.values())
    if not weights or min(weights.values()) < 0 or total <= 0:
        raise InvalidInput(f"objective weights are {dict(weights)}; expected none negative and at least one positive")
    if not 0 < level < 1 or resamples < 1:
        raise InvalidInput(f"level {level}, resamples {resamples}; expected a level in (0, 1) and at least 1 resample")
    factors = {name: weights[name] / total * (scale or {}).get(name, 1.0) for name in sorted(weights)}
    stream_of = _streams(factors, seed, same_items or {})
    gain = 0.0
    draws = np.zeros(resamples)
    for name, factor in factors.items():
        if name in exact:
            difference = factor * _exact_difference(name, a, b)
            gain, draws = gain + difference, draws + difference
            continue
        generator = np.random.Generator(np.random.PCG64(stream_of[name]))
        if _of_sets(name, a, b):
            first, second = set_sums([a[name], b[name]], (clusters or {}).get(name))
            gain += factor * (first.value - second.value)
            draws += factor * _resampled_sets(first, second, resamples, generator)
            continue
        difference, differences, item_weights = _extended(name, a, b, (clusters or {}).get(name))
        gain += factor * difference
        draws += factor * _resampled_means(differences, item_weights, resamples, generator)
    low, high = (float(end) for end in np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    p_value = (1 + int((draws <= 0).sum())) / (1 + resamples)
    return Interval(gain=gain, low=min(low, gain), high=max(high, gain), level=level, p_value=p_value)


def lower_end(
    a: Mapping[str, ItemScores],
    b: Mapping[str, ItemScores],
    weights: Mapping[str, float],
    *,
    error: float,
    scale: Mapping[str, float] | None = None,
    clusters: Mapping[str, Mapping[int, Hashable]] | None = None,
    exact: Collection[str] = (),
) -> float:
    """Return a bound that the gain of `a` over `b` exceeds, from a normal approximation instead of resamples.

    For many comparisons at small errors, where a bootstrap would need many resamples. As in `paired_interval` a win and
    a loss are added; quantiles are Student's (the first term of Cornish & Fisher's expansion), and objectives count as
    if they were fully correlated, which is what two metrics of the same items may be.

    Args:
        a: objective -> item scores of the first candidate.
        b: the same of the second, on the same items.
        weights: objective -> share, as in `paired_interval`.
        error: chance that the bound is above the truth, in (0, 0.5).
        scale: objective -> factor of its item scores before weighting; 1 where absent.
        clusters: objective -> item -> its cluster.
        exact: objectives without any error.

    Raises:
        InvalidInput: as `paired_interval`.
    """
    total = sum(weights.values())
    gain = margin = 0.0
    quantile = NormalDist().inv_cdf(1 - error)
    for name in sorted(weights):
        factor = weights[name] / total * (scale or {}).get(name, 1.0)
        if name in exact:
            gain += factor * _exact_difference(name, a, b)
            continue
        difference, differences, item_weights = _extended(name, a, b, (clusters or {}).get(name))
        gain += factor * difference
        centered = differences - float(item_weights @ differences / item_weights.sum())
        n = len(differences)
        stderr = float(np.sqrt(((item_weights * centered) ** 2).sum() * n / (n - 1)) / item_weights.sum())
        margin += factor * stderr * (quantile + (quantile**3 + quantile) / (4 * (n - 1)))
    return gain - margin


def _streams(
    names: Collection[str], seed: int, same_items: Mapping[str, Hashable]
) -> dict[str, np.random.SeedSequence]:
    """Return objective -> the seed of its draws, one for all objectives of the same items."""
    spawned = zip(names, np.random.SeedSequence(seed).spawn(len(names)), strict=True)
    shared: dict[Hashable, np.random.SeedSequence] = {}
    return {
        name: shared.setdefault(same_items[name], stream) if name in same_items else stream for name, stream in spawned
    }


def _exact_difference(name: str, a: Mapping[str, ItemScores], b: Mapping[str, ItemScores]) -> float:
    """Return the difference of an objective that has no error."""
    _, differences, weights, _ = _paired(name, a, b)
    return float(weights @ differences / weights.sum())


def _extended(
    name: str,
    a: Mapping[str, ItemScores],
    b: Mapping[str, ItemScores],
    cluster_of: Mapping[int, Hashable] | None,
) -> tuple[float, _Array, _Array]:
    """Return an objective's mean difference a - b, its differences with a win and a loss added, and their weights.

    The differences are those of items, or of clusters where there are some.
    """
    if _of_sets(name, a, b):
        return _extended_worth(*set_sums([a[name], b[name]], cluster_of))
    ids, differences, weights, magnitude = _paired(name, a, b)
    mean = float(weights @ differences / weights.sum())
    if cluster_of is not None:
        differences, weights = _joined(ids, differences, weights, cluster_of)
        magnitude = float(np.abs(differences).max()) or magnitude
    extended = np.concatenate([differences, [magnitude, -magnitude]])
    return mean, extended, np.concatenate([weights, [weights.mean()] * 2])


def _of_sets(name: str, a: Mapping[str, ItemScores], b: Mapping[str, ItemScores]) -> bool:
    """Tell whether an objective is a metric of the whole set."""
    return any(name in items and items[name].parts is not None for items in (a, b))


def _extended_worth(first: SetSums, second: SetSums) -> tuple[float, _Array, _Array]:
    """Return what `_extended` does for a metric of the whole set: differences of what each item is worth to it."""
    worth, other = first.pseudo_values(), second.pseudo_values()
    differences = worth - other
    magnitude = float(np.abs(differences).max()) or _possible_difference(np.concatenate([worth, other]))
    extended = np.concatenate([differences, [magnitude, -magnitude]])
    return first.value - second.value, extended, np.ones(len(extended))


def _joined(
    ids: npt.NDArray[np.int64], differences: _Array, weights: _Array, cluster_of: Mapping[int, Hashable]
) -> tuple[_Array, _Array]:
    """Return the weighted mean difference of each cluster, and its weight; items without a cluster stay alone."""
    cluster = cluster_numbers(ids.tolist(), cluster_of)
    sums = np.bincount(cluster, weights * differences)
    totals = np.bincount(cluster, weights).astype(np.float64)
    return np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0), totals


def _paired(
    name: str, a: Mapping[str, ItemScores], b: Mapping[str, ItemScores]
) -> tuple[npt.NDArray[np.int64], _Array, _Array, float]:
    """Return item ids, differences a - b, weights, and the size of the win and the loss that are added."""
    if name not in a or name not in b:
        raise InvalidInput(
            f"objective {name!r} has no item scores for {'the first' if name not in a else 'the second'}"
        )
    (ids_a, values_a, weights_a), (ids_b, values_b, weights_b) = _by_id(a[name]), _by_id(b[name])
    if not np.array_equal(ids_a, ids_b):
        raise InvalidInput(
            f"objective {name!r}: the two candidates were scored on different items; pair needs the same"
        )
    if not np.array_equal(weights_a, weights_b):
        raise InvalidInput(f"objective {name!r}: the items' weights differ between the two candidates")
    values = np.concatenate([values_a, values_b])
    if len(ids_a) == 0 or not np.isfinite(values).all() or weights_a.min() < 0 or weights_a.sum() <= 0:
        raise InvalidInput(f"objective {name!r}: expected items, with finite scores and weights that are not all 0")
    differences = values_a - values_b
    return ids_a, differences, weights_a, float(np.abs(differences).max()) or _possible_difference(values)


def _possible_difference(values: _Array) -> float:
    """Return how much the next item may differ where all have tied so far.

    A whole unit for scores in [0, 1]; for others, the spread of the values or, if they are all equal, their size.
    """
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 1.0:
        return 1.0
    return (high - low) or abs(high)


def _by_id(scores: ItemScores) -> tuple[npt.NDArray[np.int64], _Array, _Array]:
    ids = np.asarray(scores.ids, dtype=np.int64)
    values = np.asarray(scores.values, dtype=np.float64)
    weights = np.ones(len(ids)) if scores.weights is None else np.asarray(scores.weights, dtype=np.float64)
    if not len(ids) == len(values) == len(weights):
        raise InvalidInput(f"item scores hold {len(ids)} ids, {len(values)} values, {len(weights)} weights")
    order = np.argsort(ids, kind="stable")
    return ids[order], values[order], weights[order]


def _resampled_sets(first: SetSums, second: SetSums, resamples: int, generator: np.random.Generator) -> _Array:
    """Return the difference of a set's metric between two models on samples with replacement, shape (resamples,)."""
    first, second = extended_pair(first, second)
    n, width = first.sums_MK.shape
    draws = np.empty(resamples)
    rows = max(1, _MAX_CELLS // max(n, width))
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        picks = generator.integers(0, n, size=(count, n), dtype=np.int32)
        places = (picks + n * np.arange(count)[:, None]).ravel()
        counts_SM = np.bincount(places, minlength=count * n).reshape(count, n).astype(np.float64)
        draws[begin : begin + count] = first.of(counts_SM) - second.of(counts_SM)
    return draws


def _resampled_means(values: _Array, weights: _Array, resamples: int, generator: np.random.Generator) -> _Array:
    """Return weighted means of samples with replacement, shape (resamples,)."""
    n = len(values)
    products, equal = values * weights, bool((weights == weights[0]).all())
    means = np.empty(resamples)
    rows = max(1, _MAX_CELLS // n)
    for first in range(0, resamples, rows):
        picks = generator.integers(0, n, size=(min(rows, resamples - first), n), dtype=np.int32)
        if equal:
            means[first : first + rows] = values[picks].mean(axis=1)
        else:
            # the added items carry weight, so a resample without any is as good as impossible; guard all the same
            means[first : first + rows] = products[picks].sum(axis=1) / np.maximum(weights[picks].sum(axis=1), 1e-300)
    return means
