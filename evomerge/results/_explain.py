"""One candidate, explained: where it comes from, what each parent contributes by layer, what it scored."""

from typing import Any

from evomerge.records import POOLS, Candidate, Pool
from evomerge.results._contributions import contributions
from evomerge.run import Run, displayed_score


def explain_document(run: Run, candidate: Candidate) -> dict[str, Any]:
    """Return everything that is known of one candidate, as JSON-able data.

    Args:
        run: the run of the candidate.
        candidate: any of the run's candidates.

    Returns:
        Its origin, scores of each pool with 95% intervals (see `Run.intervals`), "shares" (layer -> parent -> factor)
        and its recipe.

    Raises:
        EvomergeError: the parents cannot be found any more, so that no shares can be computed.
    """
    recipe = run.recipe(candidate)
    buildable = candidate.failure is None or candidate.failure.kind != "infeasible"
    return {
        "id": candidate.id,
        "name": candidate.name,
        "kind": candidate.kind,
        "state": candidate.state,
        "generation": candidate.generation,
        "subset": candidate.subset,
        "worker": candidate.worker,
        "seconds": candidate.seconds,
        "failure": None
        if candidate.failure is None
        else {"kind": candidate.failure.kind, "reason": candidate.failure.reason},
        "fingerprint": recipe.fingerprint,
        "scores": {pool: _scores(run, candidate, pool) for pool in POOLS if pool in candidate.scores},
        "shares": contributions(run, candidate) if buildable else {},
        "recipe": dict(candidate.recipe),
    }


def _scores(run: Run, candidate: Candidate, pool: Pool) -> dict[str, Any]:
    intervals = run.intervals(candidate, pool)
    return {
        o.name: {**displayed_score(o, candidate.scores[pool][o.name]), "interval": intervals[o.name]}
        for o in run.objectives
    }
