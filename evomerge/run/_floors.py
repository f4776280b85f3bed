"""Floors: values that an objective must reach, given as a number or by a parent's own score."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.records import Candidate, Objective, Pool
from evomerge.run._objectives import displayed_value, internal_value, values_of


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
