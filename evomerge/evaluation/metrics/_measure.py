"""How the number that lm-eval computes for one document becomes an item's value. Higher is better afterwards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evomerge.errors import did_you_mean
from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation.metrics._set_rows import OF_AGGREGATION, own_value, row_of
from evomerge.records import SetParts

Link = Literal["identity", "exp"]

# lm-eval's aggregations that are a (weighted) mean over items, up to a link.
_ITEMWISE = {
    "mean": "the mean",
    "perplexity": "exp of minus the mean log-likelihood",
    "weighted_perplexity": "exp of minus the mean log-likelihood per unit",
    "bits_per_byte": "minus the mean log-likelihood per byte, in bits",
    "brier_score": "the mean squared error of the choice probabilities",
}

_OF_LIKELIHOODS = {"perplexity", "weighted_perplexity", "bits_per_byte", "brier_score"}  # lower where gold is likelier

ANSWER_TOKENS = "answer_tokens"
"""A metric that every task has whose answers are generated: how many tokens an answer takes."""

OWN = "the task's own "
"""What stands before the name of an aggregation that is a function of the task's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One metric of one task, from what each item gives.

    Attributes:
        metric: the first key under which lm-eval files the number.
        filter: the second key.
        aggregation: lm-eval's name of the aggregation; that of a known one where the task's own function is the same.
        direction: of the metric as lm-eval reports it.
        own: whether the aggregation is a function of the task's own.
    """

    metric: str
    filter: str
    aggregation: str
    direction: Literal["max", "min"]
    own: bool = False

    @property
    def parts(self) -> SetParts | None:
        """The metric of a whole set that this is, without rows; None where it is a mean over items."""
        metric = OF_AGGREGATION.get(self.aggregation)
        return None if metric is None else SetParts(metric=metric, sign=1 if self.direction == "max" else -1, rows=())

    @property
    def counts_tokens(self) -> bool:
        """Whether this is the number of tokens of an answer, which lm-eval computes nothing for."""
        return self.aggregation == ANSWER_TOKENS

    @property
    def link(self) -> Link:
        """How the mean of the values becomes the metric (see `Objective.link`)."""
        return "exp" if self.aggregation in ("perplexity", "weighted_perplexity") else "identity"

    @property
    def rewards_gold(self) -> bool:
        """Whether likelier right answers make the metric better: not where fewer of them are wanted."""
        return self.direction == "max" or self.aggregation in _OF_LIKELIHOODS

    @property
    def weighted(self) -> bool:
        """Whether items carry weights (number of words or bytes)."""
        return self.aggregation in ("weighted_perplexity", "bits_per_byte")

    def value(self, raw: Any) -> tuple[float, float]:
        """Return (value, weight) of an item from what the task's `process_results` gave for it.

        Where the metric is one of the whole set, the value is that of the item by itself (see `own_value`).

        Raises:
            TypeError: `raw` is not what the aggregation works on.
            ValueError: the same.
        """
        if self.parts is not None:
            return own_value(self.parts, row_of(self.aggregation, raw)), 1.0
        if self.aggregation == "brier_score":
            gold, probabilities = raw
            error = sum((float(p) - (i == gold)) ** 2 for i, p in enumerate(probabilities))
            return -error, 1.0
        if self.aggregation in ("weighted_perplexity", "bits_per_byte"):
            log_likelihood, units = raw
            per_unit = float(log_likelihood) / units
            return (per_unit / math.log(2) if self.aggregation == "bits_per_byte" else per_unit), float(units)
        if self.aggregation == "perplexity" or self.direction == "max":
            return float(raw), 1.0
        return -float(raw), 1.0


def choose_measure(
    wanted: str | None,
    aggregations: Mapping[str, str],
    higher_is_better: Mapping[str, bool | None],
    filters: Sequence[str],
) -> Measure:
    """Choose the metric of a task.

    Args:
        wanted: "metric", "metric,filter" or None for the task's first metric.
        aggregations: metric -> name of its aggregation, with `OWN` before it where the function is the task's own.
        higher_is_better: metric -> its direction, or None where the task does not say.
        filters: names of the task's filters.

    Raises:
        InvalidTask: there is no such metric or filter, or it cannot be computed from what single items give.
    """
    available = ", ".join(aggregations) or "none"
    if not aggregations:
        raise InvalidTask("it defines no metric")
    metric, _, filter_name = (wanted or next(iter(aggregations))).partition(",")
    if metric not in aggregations:
        raise InvalidTask(f'it has no metric "{metric}" (it has: {available}).{did_you_mean(metric, aggregations)}')
    if filter_name and filter_name not in filters:
        raise InvalidTask(f'it has no filter "{filter_name}" (it has: {", ".join(filters)})')
    aggregation = aggregations[metric].removeprefix(OWN)
    known = {*_ITEMWISE, *OF_AGGREGATION}
    if aggregation not in known:
        usable = [name for name, how in aggregations.items() if how.removeprefix(OWN) in known]
        instead = f"use one of: {', '.join(usable)}" if usable else "it has no other metric"
        raise InvalidTask(
            f'its metric "{metric}" is aggregated by {aggregation}, which is neither a mean over items nor a metric of '
            f"the whole set that is known; {instead}"
        )
    better = higher_is_better.get(metric)
    if better is None:
        raise InvalidTask(f'its metric "{metric}" does not say which way is better; add higher_is_better to its YAML')
    return Measure(
        metric=metric,
        filter=filter_name or filters[0],
        aggregation=aggregation,
        direction="max" if better else "min",
        own=aggregations[metric].startswith(OWN),
    )


def choice_margin(
    log_likelihoods: Sequence[float], golds: Sequence[int], lengths: Sequence[float] | None
) -> float | None:
    """Return the log-likelihood of the best right choice minus that of the best wrong one.

    Args:
        log_likelihoods: of the choices.
        golds: indices of the right choices.
        lengths: divide the log-likelihoods first, where the metric does (acc_norm, acc_bytes); None: they do not.

    Returns:
        None when no gold index is among the choices.
    """
    scaled = [v / n for v, n in zip(log_likelihoods, lengths, strict=True)] if lengths else list(log_likelihoods)
    right = [scaled[i] for i in golds if 0 <= i < len(scaled)]
    wrong = [v for i, v in enumerate(scaled) if i not in golds]
    if not right:
        return None
    return max(right) - max(wrong) if wrong else max(right)
