"""What the ledger's tables hold, as the program's records, and back."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from evomerge.records import Candidate, Failure, ItemScores, Point, Pool, Scores, SetParts

CANDIDATE_COLUMNS = "id, name, kind, generation, subset, point, recipe, state, failure, seconds, worker"


def candidate_of(row: Sequence[Any], scores: Mapping[Pool, Scores]) -> Candidate:
    """Return a candidate from its row (the columns of `CANDIDATE_COLUMNS`) and its scores by pool."""
    identity, name, kind, generation, subset, point, recipe, state, failure, seconds, worker = row
    return Candidate(
        id=identity,
        name=name,
        kind=kind,
        generation=generation,
        subset=subset,
        point=None if point is None else point_of(json.loads(point)),
        recipe=json.loads(recipe),
        state=state,
        failure=None if failure is None else Failure(**json.loads(failure)),
        scores=scores,
        seconds=seconds,
        worker=worker,
    )


@lru_cache(maxsize=64)
def stored_ids(ids: tuple[int, ...]) -> str:
    """Return item ids as they are stored; all candidates of a generation have the same."""
    return json.dumps(ids)


@lru_cache(maxsize=64)
def ids_of(text: str) -> tuple[int, ...]:
    """Return item ids from what `stored_ids` made of them."""
    return tuple(json.loads(text))


def stored_values(scores: ItemScores) -> str:
    """Return the values of items as they are stored: a list, or with the parts of a metric of the whole set."""
    if scores.parts is None:
        return json.dumps(scores.values)
    parts = scores.parts
    return json.dumps({"values": scores.values, "metric": parts.metric, "sign": parts.sign, "rows": parts.rows})


def values_and_parts(text: str) -> tuple[list[float], SetParts | None]:
    """Return values and parts from what `stored_values` made of them."""
    plain = json.loads(text)
    if isinstance(plain, list):
        return plain, None
    rows = tuple(tuple(row) for row in plain["rows"])
    return plain["values"], SetParts(metric=plain["metric"], sign=plain["sign"], rows=rows)


def stored_point(point: Point) -> dict[str, Any]:
    """Return a point as plain data."""
    return {"reals": point.reals, "integers": point.integers, "categories": point.categories}


def point_of(plain: Mapping[str, Any]) -> Point:
    """Return a point from what `stored_point` made of it."""
    return Point(**{name: tuple(values) for name, values in plain.items()})
