"""`front --json`: everything about a run's results as one JSON document (version 1, see docs/formats.md)."""

from typing import Any

from evomerge.records import POOLS, Candidate, Objective, Pool
from evomerge.run import Run, displayed_score

VERSION = 1


def front_document(run: Run, *, everything: bool = False, price: float | None = None) -> dict[str, Any]:
    """Return the front, the finalists and the references with the scores of all pools.

    Args:
        run: a run, finished or not.
        everything: list all candidates, unscored ones too.
        price: of an hour of all the run's machines together, in any currency; None = money is not mentioned.

    Returns:
        Version 1 of the document in docs/formats.md; values are in each metric's own direction.
    """
    objectives = run.objectives
    front = {candidate.id for candidate in run.front}
    listed = run.listed(everything=everything)
    cost = run.cost(price)
    items = cost["items"]
    pick, knee = run.pick, run.knee
    return {
        "version": VERSION,
        "run": str(run.path),
        "state": run.state,
        "objectives": [objective.name for objective in objectives],
        "directions": {objective.name: objective.direction for objective in objectives},
        "items": items,
        "items_scored": sum(items.values()),
        "items_with_gradient": run.items_with_gradient,
        "cost": {key: value for key, value in cost.items() if key != "items"},
        "candidates": [_row(candidate, objectives, candidate.id in front) for candidate in listed],
        "pick": None if pick is None else pick.id,
        "knee": None if knee is None else knee.id,
        "verdict": run.verdict,
        "calibration": run.calibration,
    }


def _row(candidate: Candidate, objectives: tuple[Objective, ...], on_front: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": candidate.id,
        "name": candidate.name,
        "kind": candidate.kind,
        "state": candidate.state,
        "generation": candidate.generation,
        "on_front": on_front,
    }
    for pool in POOLS:
        row[pool] = _scores(candidate, pool, objectives)
    if candidate.failure is not None:
        row["failure"] = {"kind": candidate.failure.kind, "reason": candidate.failure.reason}
    row["recipe"] = dict(candidate.recipe)
    return row


def _scores(candidate: Candidate, pool: Pool, objectives: tuple[Objective, ...]) -> dict[str, Any]:
    found = candidate.scores.get(pool, {})
    return {o.name: displayed_score(o, found[o.name]) for o in objectives if o.name in found}
