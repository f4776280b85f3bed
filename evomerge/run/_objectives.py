"""From the scores of several objectives to what an optimizer is told and what people are shown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.records import (
    ItemScores,
    Objective,
    Score,
    Scores,
)
from evomerge.stats import mean_and_stderr

PENALTY = 2.0  # how much a shortfall below a floor costs, in units of the weighted mean: more than it could ever earn


def metric(objective: Objective, value: float) -> float:
    """Return an inner value in the metric's own units and direction."""
    if objective.link == "exp":
        return math.exp(min(-value, 700.0))
    return value if objective.direction == "max" else -value


def inner(objective: Objective, shown: float) -> float:
    """Return the inner value of a metric (the inverse of `metric`)."""
    if objective.link == "exp":
        return -math.log(max(shown, 1e-300))
    return shown if objective.direction == "max" else -shown


def factor(objective: Objective) -> float:
    """Return what one unit of inner value counts in the weighted mean before weighting (1 / the scale's width)."""
    if objective.scale is None:
        return 1.0
    low, high = sorted(inner(objective, end) for end in objective.scale)
    return 1.0 / (high - low)


def scaled(objective: Objective, value: float) -> float:
    """Return an inner value on the objective's scale (unscaled objectives as they are)."""
    if objective.scale is None:
        return value
    low = min(inner(objective, end) for end in objective.scale)
    return (value - low) * factor(objective)


def shortfall(objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]) -> float:
    """Return how far the values fall below the floors (inner values), summed on the objectives' scales."""
    return sum(
        max(0.0, floors[objective.name] - values[objective.name]) * factor(objective)
        for objective in objectives
        if objective.name in floors
    )


def fitness(objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]) -> float:
    """Return the weighted mean of the scaled values, less a penalty for missed floors. Higher is better."""
    total = sum(objective.weight for objective in objectives)
    mean = sum(objective.weight * scaled(objective, values[objective.name]) for objective in objectives) / total
    return mean - PENALTY * shortfall(objectives, values, floors)


def vector(
    objectives: Sequence[Objective], values: Mapping[str, float], floors: Mapping[str, float]
) -> tuple[float, ...]:
    """Return the scaled value of each objective, each less the penalty for missed floors."""
    penalty = PENALTY * shortfall(objectives, values, floors)
    return tuple(scaled(objective, values[objective.name]) - penalty for objective in objectives)


def values_of(scores: Scores) -> dict[str, float]:
    """Return the plain values of scores."""
    return {name: score.value for name, score in scores.items()}


def scores_of(items: Mapping[str, ItemScores]) -> dict[str, Score]:
    """Return the score of each objective from its items."""
    return {name: mean_and_stderr(each.values, each.weights) for name, each in items.items()}


def shown(objective: Objective, score: Score) -> dict[str, Any]:
    """Return a score in its metric's own units and direction."""
    value = metric(objective, score.value)
    stderr = score.stderr * value if objective.link == "exp" else score.stderr  # delta method for exp(-v)
    return {"value": value, "stderr": stderr if math.isfinite(stderr) else None, "n": score.n}
