"""How good the best candidate, and the front, became over the items and the time that were spent."""

from typing import NamedTuple

from evomerge.errors import InvalidInput
from evomerge.optimizers import hypervolume
from evomerge.run._objectives import vector
from evomerge.run.analysis._facts import RunFacts
from evomerge.run.loop import GRADIENT_COST

MAX_OBJECTIVES = 4  # of a hypervolume


class CoursePoint(NamedTuple):
    """The search after one more candidate.

    Attributes:
        candidate: its id.
        items: scored on the search pool up to here, references included; one with a backward pass counts as three.
        seconds: that workers spent up to here, all together.
        fitness: of this candidate, adjusted for item difficulty, or None: it has no score.
        best: the largest fitness so far, references included, or None.
        searched: whether the optimizer proposed it.
    """

    candidate: int
    items: int
    seconds: float
    fitness: float | None
    best: float | None
    searched: bool


def course(facts: RunFacts) -> list[CoursePoint]:
    """Return the search candidate by candidate, in the order in which they were proposed."""
    with_gradient = facts.run.candidates_with_gradient
    points: list[CoursePoint] = []
    items, seconds, best = 0, 0.0, None
    for candidate in facts.candidates:
        if candidate.kind == "mean" or candidate.from_control:
            continue  # scored after the search
        scored = sum(score.n for score in candidate.scores.get("search", {}).values())
        items += scored * (GRADIENT_COST if candidate.id in with_gradient else 1)
        seconds += candidate.seconds or 0.0
        fitness = facts.ranking.fitness(candidate.id) if candidate.id in facts.ranking.values else None
        if fitness is not None:
            best = fitness if best is None else max(best, fitness)
        points.append(CoursePoint(candidate.id, items, seconds, fitness, best, candidate.kind == "candidate"))
    return points


def hypervolume_course(facts: RunFacts) -> list[tuple[CoursePoint, float]]:
    """Return the share of the box around all scored candidates that the front dominates, candidate by candidate.

    Values are the adjusted ones, so that subsets of different difficulty compare. Empty for one objective, where it
    would say what the best fitness says, and for more than four.
    """
    if not 1 < len(facts.objectives) <= MAX_OBJECTIVES or not facts.ranking.values:
        return []
    vectors = {i: vector(facts.objectives, values, {}) for i, values in facts.ranking.values.items()}
    lows = [min(column) for column in zip(*vectors.values(), strict=True)]
    spans = [(max(column) - low) or 1.0 for column, low in zip(zip(*vectors.values(), strict=True), lows, strict=True)]
    found: list[tuple[CoursePoint, float]] = []
    front: list[tuple[float, ...]] = []
    volume = 0.0
    for point in course(facts):
        if point.candidate in vectors:
            new = tuple((v - low) / span for v, low, span in zip(vectors[point.candidate], lows, spans, strict=True))
            if not any(all(a >= b for a, b in zip(known, new, strict=True)) for known in front):
                front = [k for k in front if not all(a >= b for a, b in zip(new, k, strict=True))] + [new]
                volume = _volume(front)
        found.append((point, volume))
    return found


def _volume(front: list[tuple[float, ...]]) -> float:
    try:
        return hypervolume(front, (0.0,) * len(front[0]))
    except InvalidInput:  # a value that is not finite
        return 0.0
