"""Fitness from soft scores: what the log-likelihood or margin of the right answer predicts.

Right or wrong on a dozen items is too coarse to rank candidates that differ little; how likely each right answer is
says far more with the same items. A soft score counts as the accuracy that it predicts: the slope of right or wrong on
the (bounded) soft score over all items of all references. Where the two do not go together, the plain score stays.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from evomerge.records import ItemScores
from evomerge.run.loop._subset_sizes import Halves
from evomerge.stats import score_of

BOUND_NATS = 8.0  # soft scores beyond count as this: nobody should win by one item
MIN_CORRELATION = 0.2  # of plain and soft scores over the references' items
MIN_OBSERVATIONS = 16

Slopes = Mapping[str, float]
"""Objective -> accuracy for one unit of soft score; objectives without one are ranked by their plain scores."""


def slopes_of(references: Iterable[Mapping[str, ItemScores]]) -> dict[str, float]:
    """Return the slopes that the references' items support.

    Args:
        references: each reference's objective -> items.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for items in references:
        for name, scores in items.items():
            if scores.soft is not None and scores.parts is None:
                pairs.setdefault(name, []).extend(zip(map(_bounded, scores.soft), scores.values, strict=True))
    slopes = {}
    for name, observed in sorted(pairs.items()):
        soft, plain = np.array(observed, dtype=np.float64).T
        if len(observed) < MIN_OBSERVATIONS or soft.std() == 0 or plain.std() == 0:
            continue
        correlation = float(np.corrcoef(soft, plain)[0, 1])
        if correlation >= MIN_CORRELATION:
            slopes[name] = correlation * float(plain.std() / soft.std())
    return slopes


def soft_value(scores: ItemScores, slope: float | None) -> float:
    """Return an objective's value: predicted by its soft scores, or its plain score where there is no slope."""
    return _mean(scores, slope, range(len(scores.ids)))


def halves_of(items: Mapping[str, ItemScores], slopes: Slopes, weights: Mapping[str, float]) -> Halves:
    """Return a candidate's weighted value on every other item, and on the rest.

    Args:
        items: objective -> items, at least two of each.
        slopes: see `slopes_of`.
        weights: objective -> factor on its values.
    """
    first, second = (
        sum(
            weights[name] * _mean(scores, slopes.get(name), range(start, len(scores.ids), 2))
            for name, scores in items.items()
            if len(scores.ids) > 1
        )
        for start in (0, 1)
    )
    return float(first), float(second)


def _mean(scores: ItemScores, slope: float | None, positions: range) -> float:
    if scores.parts is not None:
        return score_of(scores.at(positions)).value
    if slope is None or scores.soft is None:
        values = [scores.values[i] for i in positions]
    else:
        values = [slope * _bounded(scores.soft[i]) for i in positions]
    weights = None if scores.weights is None else [scores.weights[i] for i in positions]
    if weights is not None and not sum(weights):
        weights = None
    return float(np.average(values, weights=weights))


def _bounded(soft: float) -> float:
    return max(-BOUND_NATS, min(BOUND_NATS, soft))
