"""Metrics of a whole set of items, such as BLEU or F1: functions of sums over the items, not means of their scores.

Each item contributes a row of numbers; the rows of a set are summed, and the metric is a function of the sums. So any
part of the items, any resample of them and any item left out has its exact value, without the texts. Formulas are those
of sacrebleu 2 (BLEU, chrF, TER with its defaults) and scikit-learn (F1, Matthews' correlation), which lm-eval calls.

Suffixes: N items, S sets, K sums.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores

_Array = npt.NDArray[np.float64]
_BLEU_ORDER, _CHRF_BETA = 4, 2
_POSITIVE = 1.0  # the label whose F1 "f1" is


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMetric:
    """A metric of a whole set.

    Attributes:
        name: of the metric.
        width: numbers of an item's row.
        sums: rows (N, width) -> what is summed, (N, K).
        value: sums (S, K) -> the metric of each set, (S,), in its own direction.
        bounds: that no value lies beyond.
    """

    name: str
    width: int
    sums: Callable[[_Array], _Array]
    value: Callable[[_Array], _Array]
    bounds: tuple[float, float] = (0.0, 1.0)


def _bleu(sums_SK: _Array) -> _Array:
    """BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040), 0 to 100, with exponential smoothing.

    Rows: length of the answer, length of the closest reference, matching n-grams of orders 1 to 4, all of the answer's.
    """
    length_S, reference_S = sums_SK[:, 0], sums_SK[:, 1]
    right_SK, total_SK = sums_SK[:, 2 : 2 + _BLEU_ORDER], sums_SK[:, 2 + _BLEU_ORDER :]
    # Each order without a match counts as half a match, a quarter, ... of those before it.
    halvings_SK = np.cumsum(right_SK == 0, axis=1)
    found_SK = np.where(right_SK > 0, right_SK, 0.5**halvings_SK)
    precision_SK = np.divide(100 * found_SK, total_SK, out=np.zeros_like(found_SK), where=total_SK > 0)
    complete_S = (precision_SK > 0).all(axis=1) & (right_SK > 0).any(axis=1)
    mean_S = np.exp(np.log(np.where(precision_SK > 0, precision_SK, 1.0)).mean(axis=1))
    ratio_S = np.divide(reference_S, length_S, out=np.ones_like(length_S), where=length_S > 0)
    return np.where(complete_S, np.exp(np.minimum(0.0, 1.0 - ratio_S)) * mean_S, 0.0)


def _chrf(sums_SK: _Array) -> _Array:
    """ChrF (Popovic 2015, https://aclanthology.org/W15-3049), 0 to 100, over the orders that both texts have.

    Rows: for each order of n-grams, those of the answer, those of the reference, and those that match.
    """
    answer_SK, reference_SK, match_SK = sums_SK[:, 0::3], sums_SK[:, 1::3], sums_SK[:, 2::3]
    used_SK = (answer_SK > 0) & (reference_SK > 0)
    orders_S = np.maximum(used_SK.sum(axis=1), 1)
    precision_S, recall_S = (
        np.divide(match_SK, of_SK, out=np.zeros_like(match_SK), where=used_SK).sum(axis=1) / orders_S
        for of_SK in (answer_SK, reference_SK)
    )
    factor = _CHRF_BETA**2
    below_S = factor * precision_S + recall_S
    above_S = 100 * (1 + factor) * precision_S * recall_S
    return np.divide(above_S, below_S, out=np.zeros_like(below_S), where=below_S > 0)


def _ter(sums_SK: _Array) -> _Array:
    """Translation edit rate (Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25); lower is better.

    Rows: edits, mean length of the references.
    """
    edits_S, length_S = sums_SK[:, 0], sums_SK[:, 1]
    without_S = np.where(edits_S > 0, 100.0, 0.0)
    return np.where(length_S > 0, 100 * edits_S / np.where(length_S > 0, length_S, 1.0), without_S)


def _ratio(sums_SK: _Array) -> _Array:
    """Return the sum of the values over the sum of their numbers; 0 where there is none. Rows: value, number."""
    value_S, number_S = sums_SK[:, 0], sums_SK[:, 1]
    return np.divide(value_S, number_S, out=np.zeros_like(value_S), where=number_S != 0)


def _label_sums(rows_N2: _Array) -> _Array:
    """Return, of rows of a right and a given label, each label's counts: right, given, both. Shape (N, 3 labels)."""
    labels = np.unique(rows_N2)
    right_NL, given_NL = (rows_N2[:, [column]] == labels for column in (0, 1))
    return np.concatenate([right_NL, given_NL, right_NL & given_NL], axis=1).astype(np.float64)


def _counts(sums_SK: _Array) -> tuple[_Array, _Array, _Array]:
    right_SL, given_SL, both_SL = np.split(sums_SK, 3, axis=1)
    return right_SL, given_SL, both_SL


def _f1_of_labels(sums_SK: _Array) -> _Array:
    right_SL, given_SL, both_SL = _counts(sums_SK)
    all_SL = right_SL + given_SL
    return np.divide(2 * both_SL, all_SL, out=np.zeros_like(all_SL), where=all_SL > 0)


def _f1(sums_SK: _Array) -> _Array:
    """Return the F1 of the label 1."""
    found_S: _Array = _f1_of_labels(sums_SK)[:, 0]
    return found_S


def _macro_f1(sums_SK: _Array) -> _Array:
    """Return the mean F1 of the labels that a set contains, right or given."""
    right_SL, given_SL, _ = _counts(sums_SK)
    return _f1_of_labels(sums_SK).sum(axis=1) / np.maximum(1, (right_SL + given_SL > 0).sum(axis=1))


def _weighted_f1(sums_SK: _Array) -> _Array:
    """Return the mean F1 of the labels, each as often as it is right."""
    right_SL, _, _ = _counts(sums_SK)
    return (_f1_of_labels(sums_SK) * right_SL).sum(axis=1) / np.maximum(1, right_SL.sum(axis=1))


def _micro_f1(sums_SK: _Array) -> _Array:
    """Return the F1 of all labels' counts together: with one label an item, the share that is right."""
    right_SL, _, both_SL = _counts(sums_SK)
    return np.asarray(both_SL.sum(axis=1) / np.maximum(1, right_SL.sum(axis=1)), dtype=np.float64)


def _binary_sums(rows_N2: _Array) -> _Array:
    return (np.stack([rows_N2[:, 0], rows_N2[:, 1], rows_N2[:, 0] * rows_N2[:, 1]], axis=1) == _POSITIVE).astype(
        np.float64
    )


def _mcc(sums_SK: _Array) -> _Array:
    """Matthews' correlation coefficient of several labels (Gorodkin 2004), -1 to 1; 0 where one side is constant."""
    right_SL, given_SL, both_SL = _counts(sums_SK)
    n_S = right_SL.sum(axis=1)
    with_S = both_SL.sum(axis=1) * n_S - (right_SL * given_SL).sum(axis=1)
    right_S, given_S = (n_S**2 - (side_SL**2).sum(axis=1) for side_SL in (right_SL, given_SL))
    below_S = np.sqrt(np.maximum(0.0, right_S * given_S))
    return np.divide(with_S, below_S, out=np.zeros_like(below_S), where=below_S > 0)


def _as_they_are(rows_NK: _Array) -> _Array:
    return rows_NK


SET_METRICS: Mapping[str, SetMetric] = {
    metric.name: metric
    for metric in (
        SetMetric(name="bleu", width=2 + 2 * _BLEU_ORDER, sums=_as_they_are, value=_bleu, bounds=(0.0, 100.0)),
        SetMetric(name="chrf", width=18, sums=_as_they_are, value=_chrf, bounds=(0.0, 100.0)),
        SetMetric(name="chrf++", width=24, sums=_as_they_are, value=_chrf, bounds=(0.0, 100.0)),
        SetMetric(name="ter", width=2, sums=_as_they_are, value=_ter, bounds=(0.0, math.inf)),
        SetMetric(name="ratio", width=2, sums=_as_they_are, value=_ratio, bounds=(-math.inf, math.inf)),
        SetMetric(name="f1", width=2, sums=_binary_sums, value=_f1),
        SetMetric(name="macro_f1", width=2, sums=_label_sums, value=_macro_f1),
        SetMetric(name="micro_f1", width=2, sums=_label_sums, value=_micro_f1),
        SetMetric(name="weighted_f1", width=2, sums=_label_sums, value=_weighted_f1),
        SetMetric(name="matthews_corrcoef", width=2, sums=_label_sums, value=_mcc, bounds=(-1.0, 1.0)),
    )
}
"""Name -> metric of a whole set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSums:
    """What the items of a set add to its metric: one row for each item, or for each cluster of items.

    Attributes:
        metric: of the set.
        sign: -1 where lower is better, so that the values here are always "higher is better".
        sums_MK: (items or clusters, sums).
    """

    metric: SetMetric
    sign: int
    sums_MK: _Array

    @property
    def value(self) -> float:
        """The metric of the whole set."""
        return float(self.of(np.ones((1, len(self.sums_MK))))[0])

    def of(self, counts_SM: _Array) -> _Array:
        """Return the metric of sets that hold each row so many times, shape (sets,)."""
        return self.sign * self.metric.value(counts_SM @ self.sums_MK)

    def without_each(self) -> _Array:
        """Return the metric of the set without each of its rows, shape (rows,)."""
        return self.sign * self.metric.value(self.sums_MK.sum(axis=0) - self.sums_MK)

    def pseudo_values(self) -> _Array:
        """Return what each row is worth to the metric (Tukey's jackknife): their mean is near the metric itself."""
        count = len(self.sums_MK)
        return count * self.value - (count - 1) * self.without_each()

    def stderr(self) -> float:
        """Return the jackknife's standard error (Efron & Tibshirani 1993, ch. 11); 0 with a single row."""
        count, values_M = len(self.sums_MK), self.without_each()
        return float(np.sqrt((count - 1) / count * ((values_M - values_M.mean()) ** 2).sum()))

    def extended(self, rows_2K: _Array) -> "SetSums":
        """Return the same with two more rows."""
        return replace(self, sums_MK=np.concatenate([self.sums_MK, rows_2K]))


def set_sums(models: Sequence[ItemScores], cluster_of: Mapping[int, Hashable] | None = None) -> list[SetSums]:
    """Return the sums of several models on the same items, in one order of the items or clusters.

    Args:
        models: item scores with parts, of one metric.
        cluster_of: item -> its cluster; items that are absent, or all without it, are independent.

    Raises:
        InvalidInput: the metric is unknown, the models' items or metrics differ, or a row is not as the metric has it.
    """
    ids, names = sorted(models[0].ids), {(m.parts.metric, m.parts.sign) for m in models if m.parts is not None}
    if any(m.parts is None or sorted(m.ids) != ids for m in models) or len(names) != 1 or not ids:
        raise InvalidInput("the models were scored on different items, or by different metrics; pair needs the same")
    ((name, sign),) = names
    if name not in SET_METRICS:
        raise InvalidInput(f'there is no metric of a whole set "{name}" (there are: {", ".join(SET_METRICS)})')
    metric = SET_METRICS[name]
    sums = metric.sums(np.concatenate([_rows(model, metric) for model in models]))
    cluster_N = cluster_numbers(ids, cluster_of)
    found = []
    for sums_NK in np.split(sums, len(models)):
        sums_MK = np.zeros((int(cluster_N.max()) + 1, sums_NK.shape[1]))
        np.add.at(sums_MK, cluster_N, sums_NK)
        found.append(SetSums(metric=metric, sign=sign, sums_MK=sums_MK))
    return found


def _rows(scores: ItemScores, metric: SetMetric) -> _Array:
    """Return a model's rows by ascending item number."""
    assert scores.parts is not None
    rows = scores.parts.rows
    if len(rows) != len(scores.ids) or any(len(row) != metric.width for row in rows):
        raise InvalidInput(f"the metric {metric.name} takes {metric.width} numbers for each item")
    rows_NW = np.asarray(rows, dtype=np.float64)[np.argsort(scores.ids, kind="stable")]
    if not np.isfinite(rows_NW).all():
        raise InvalidInput(f"the metric {metric.name} takes finite numbers")
    return rows_NW


def cluster_numbers(ids: Sequence[int], cluster_of: Mapping[int, Hashable] | None) -> npt.NDArray[np.int64]:
    """Return the number of each item's cluster, from 0 in the order of the items; items without one stay alone."""
    numbers: dict[Hashable, int] = {}
    known = cluster_of or {}
    keys = (("cluster", known[item]) if item in known else ("item", item) for item in map(int, ids))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def extended_pair(first: SetSums, second: SetSums) -> tuple[SetSums, SetSums]:
    """Return two models' sums with a win and a loss added (see `paired_interval`).

    They are the row on which the two differ most, as it is and exchanged; where they do not differ anywhere, the row
    that is worth most against the one that is worth least.
    """
    a_MK, b_MK = first.sums_MK, second.sums_MK
    difference_M = first.pseudo_values() - second.pseudo_values()
    if (a_MK != b_MK).any():
        most = int(np.abs(np.where((a_MK != b_MK).any(axis=1), difference_M, 0.0)).argmax())
        won_K, lost_K = (a_MK[most], b_MK[most]) if difference_M[most] >= 0 else (b_MK[most], a_MK[most])
    else:
        worth_M = first.pseudo_values()
        won_K, lost_K = a_MK[int(worth_M.argmax())], a_MK[int(worth_M.argmin())]
    return first.extended(np.stack([won_K, lost_K])), second.extended(np.stack([lost_K, won_K]))
