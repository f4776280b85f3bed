"""A run as pandas frames. pandas comes with lm-eval's data sets and is imported when a frame is made."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.records import POOLS, Candidate
from evomerge.run._objectives import displayed_score, displayed_value
from evomerge.run.analysis._facts import RunFacts
from evomerge.run.analysis._genes import point_row

if TYPE_CHECKING:
    import pandas


def frame(facts: RunFacts, what: str) -> "pandas.DataFrame":
    """Return a part of a run as a frame.

    Args:
        facts: of the run.
        what: "candidates" (a row for everything that was tried: when it was finished, in UTC, its scores in the
            metric's own units, then the genes by name), "front" (those rows of the front) or "items" (a row for each
            candidate, pool, objective and item).

    Raises:
        InvalidInput: there is no such frame, or pandas is not installed.
    """
    if what not in _FRAMES:
        raise InvalidInput(f'no frame is called "{what}"; there are {", ".join(_FRAMES)}.{did_you_mean(what, _FRAMES)}')
    try:
        import pandas
    except ImportError:
        raise InvalidInput("frames need pandas: pip install pandas") from None
    rows = _FRAMES[what](facts)
    made = pandas.DataFrame(rows)
    return made if what == "items" or not rows else made.set_index("id")


def _candidate_rows(facts: RunFacts) -> list[dict[str, Any]]:
    genes = [str(name) for name in facts.run.fact("coordinates", [])]
    moments = facts.run.finished_at()
    return [_candidate_row(facts, candidate, genes, moments) for candidate in facts.candidates]


def _candidate_row(
    facts: RunFacts, candidate: Candidate, genes: list[str], moments: Mapping[int, float]
) -> dict[str, Any]:
    known = candidate.id in facts.ranking.values
    row: dict[str, Any] = {
        "id": candidate.id,
        "name": candidate.name,
        "kind": candidate.kind,
        "state": candidate.state,
        "generation": candidate.generation,
        "seconds": candidate.seconds,
        "finished": _moment(moments.get(candidate.id)),
        "worker": candidate.worker,
        "on_front": candidate.id in facts.front,
        "is_pick": facts.pick is not None and candidate.id == facts.pick.id,
        "fitness": facts.ranking.fitness(candidate.id) if known else None,
    }
    for objective in facts.objectives:
        row[f"{objective.name} adjusted"] = facts.adjusted(candidate.id, objective)
        for pool in POOLS:
            score = candidate.scores.get(pool, {}).get(objective.name)
            found = {} if score is None else displayed_score(objective, score)
            row |= {
                f"{objective.name} {pool}": found.get("value"),
                f"{objective.name} {pool} stderr": found.get("stderr"),
            }
    for pool in POOLS:
        row[f"mean {pool}"] = facts.mean(candidate, pool)
    row["failure"] = None if candidate.failure is None else candidate.failure.reason
    values = [] if candidate.point is None else point_row(candidate.point)
    return row | (dict(zip(genes, values, strict=True)) if len(values) == len(genes) else {})


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _front_rows(facts: RunFacts) -> list[dict[str, Any]]:
    return [row for row in _candidate_rows(facts) if row["on_front"]]


def _item_rows(facts: RunFacts) -> list[dict[str, Any]]:
    objectives = {objective.name: objective for objective in facts.objectives}
    return [
        {
            "candidate": candidate,
            "pool": pool,
            "objective": name,
            "item": item,
            "value": displayed_value(objectives[name], value),
        }
        for pool in POOLS
        for candidate, found in facts.run.items(pool).items()
        for name, scores in found.items()
        for item, value in zip(scores.ids, scores.values, strict=True)
    ]


_FRAMES: dict[str, Callable[[RunFacts], list[dict[str, Any]]]] = {
    "candidates": _candidate_rows,
    "front": _front_rows,
    "items": _item_rows,
}
FRAMES = tuple(_FRAMES)
