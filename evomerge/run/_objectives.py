"""From the scores of several objectives to what an optimizer learns from and what people read.

Inside the program every score is an *internal value*: higher is better. People read *displayed values*: the metric's
own units and direction. A floor is a value that an objective must reach, given as a number or by a parent's own score.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.optimizers import ItemValue
from evomerge.records import (
    Candidate,
    ItemScores,
    Objective,
    Pool,
    Score,
    Scores,
)
from evomerge.stats import score_of

FLOOR_PENALTY = 2.0  # cost of one unit of shortfall below a floor, in units of the weighted mean: more than it can earn


def displayed_value(objective: Objective, internal: float) -> float:
    """Return an internal value in the metric's own units and direction."""
    return objective.displayed(internal)


def internal_value(objective: Objective, displayed: float) -> float:
    """Return the internal value of a metric (the inverse of `displayed_value`)."""
    if objective.link == "exp":
        return -math.log(max(displayed, 1e-300))
    return displayed if objective.direction == "max" else -displayed


def displayed_score(objective: Objective, score: Score) -> dict[str, Any]:
    """Return a score as plain data in its metric's own units and direction.

    Returns:
        value: the metric.
        stderr: its standard error, None where it is not finite or the value is exact.
        n: the number of items.
    """
    value = displayed_value(objective, score.value)
    stderr = score.stderr * value if objective.link == "exp" else score.stderr  # delta method for exp(-v)
    return {"value": value, "stderr": stderr if math.isfinite(stderr) and not objective.exact else None, "n": score.n}


def displayed_interval(objective: Objective, low: float, high: float) -> list[float]:
    """Return an interval of internal values in the metric's own units and direction, lower end first."""
    return sorted(displayed_value(objective, end) for end in (low, high))


def exact_ones(objectives: Iterable[Objective]) -> frozenset[str]:
    """Return the names of the objectives that are known without error."""
    return frozenset(objective.name for objective in objectives if objective.exact)


def scale_factor(objective: Objective) -> float:
    """Return what one unit of internal value counts in the weighted mean before weighting: 1 / the scale's width."""
    if objective.scale is None:
        return 1.0
    low, high = sorted(internal_value(objective, end) for end in objective.scale)
    return 1.0 / (high - low)


def scaled_value(objective: Objective, internal: float) -> float:
    """Return an internal value on the objective's scale, 0 to 1 between its ends; without a scale, as it is."""
    if objective.scale is None:
        return internal
    low = min(internal_value(objective, end) for end in objective.scale)
    return (internal - low) * scale_factor(objective)


def item_values(objectives: Sequence[Objective], items: Mapping[str, ItemScores]) -> dict[str, ItemValue]:
    """Return what a candidate earned for each item: the scaled value, and the item's weight in the weighted mean.

    Where the metric is one of the whole set, the value is that of the item by itself.

    Args:
        objectives: all objectives.
        items: objective -> item scores.
    """
    found = {}
    for objective in objectives:
        scores = items[objective.name]
        weights = scores.weights or (1.0,) * len(scores.ids)
        total = math.fsum(weights) or 1.0
        for item, value, weight in zip(scores.ids, scores.values, weights, strict=True):
            share = objective.weight * weight / total
            found[f"{objective.name} {item}"] = ItemValue(scaled_value(objective, value), share)
    return found


def reweighted(objectives: Sequence[Objective], weights: Mapping[str, float]) -> list[Objective]:
    """Return the objectives with other weights.

    Args:
        objectives: all objectives.
        weights: objective -> its weight, at least 0; those left out keep their own.

    Raises:
        InvalidInput: there is no such objective, or a weight is negative, or all are 0.
    """
    known = {objective.name: objective for objective in objectives}
    for name, weight in weights.items():
        if name not in known:
            raise InvalidInput(f'no objective "{name}"; known are {", ".join(known)}.{did_you_mean(name, known)}')
        if not 0 <= weight < math.inf:
            raise InvalidInput(f"the weight of {name} is {weight}; expected a number from 0")
    found = [replace(objective, weight=weights.get(objective.name, objective.weight)) for objective in objectives]
    if not any(objective.weight for objective in found):
        raise InvalidInput("the weights of all objectives are 0; give one of them a weight")
    return found


def shortfall(objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]) -> float:
    """Return how far values fall below floors, summed on the objectives' scales.

    Args:
        objectives: all objectives.
        values: objective -> internal value.
        floors: objective -> internal floor; objectives without one are left out.
    """
    return sum(
        max(0.0, floors[objective.name] - values[objective.name]) * scale_factor(objective)
        for objective in objectives
        if objective.name in floors
    )


def fitness(objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]) -> float:
    """Return the weighted mean of the scaled values, less a penalty for missed floors. Higher is better.

    Args:
        objectives: all objectives.
        values: objective -> internal value.
        floors: objective -> internal floor.
    """
    total = sum(objective.weight for objective in objectives)
    mean = sum(objective.weight * scaled_value(objective, values[objective.name]) for objective in objectives) / total
    return mean - FLOOR_PENALTY * shortfall(objectives, values, floors)


def vector(
    objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]
) -> tuple[float, ...]:
    """Return the scaled value of each objective, each less the penalty for missed floors. Arguments as of `fitness`."""
    penalty = FLOOR_PENALTY * shortfall(objectives, values, floors)
    return tuple(scaled_value(objective, values[objective.name]) - penalty for objective in objectives)


def values_of(scores: Scores) -> dict[str, float]:
    """Return objective -> internal value."""
    return {name: score.value for name, score in scores.items()}


def scores_of(items: Mapping[str, ItemScores]) -> dict[str, Score]:
    """Return the score of each objective from its items."""
    return {name: score_of(scores) for name, scores in items.items()}


def floors_of(
    objectives: Sequence[Objective],
    relative: Mapping[str, Sequence[Any]],
    parent_scores: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    """Return objective -> internal floor.

    Args:
        objectives: all objectives, some with a floor in the metric's own units.
        relative: objective -> (parent, distance in the metric's own units), as `relative_floors` returns it.
        parent_scores: parent -> objective -> internal value; a floor relative to a parent without scores is left out.
    """
    found = {o.name: internal_value(o, o.floor) for o in objectives if o.floor is not None}
    for objective in objectives:
        parent, minus = relative.get(objective.name, (None, 0.0))
        if parent in parent_scores:
            reached = displayed_value(objective, parent_scores[parent][objective.name])
            floor = reached - minus if objective.direction == "max" else reached + minus
            found[objective.name] = internal_value(objective, floor)
    return found


def parent_scores(candidates: Iterable[Candidate], pool: Pool) -> dict[str, dict[str, float]]:
    """Return parent -> objective -> internal value of the parents that were scored on a pool."""
    return {c.name: values_of(c.scores[pool]) for c in candidates if c.kind == "parent" and pool in c.scores}
