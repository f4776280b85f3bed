"""One candidate, explained: where it comes from, what each parent contributes by layer, what it scored."""

from collections.abc import Mapping
from typing import Any

from evomerge.records import POOLS, Candidate, Pool
from evomerge.results._shares import shares_of
from evomerge.run import Run, displayed_score


def explain_document(run: Run, candidate: Candidate) -> dict[str, Any]:
    """Return everything that is known of one candidate, as JSON-able data.

    Args:
        run: the run of the candidate.
        candidate: any of the run's candidates.

    Returns:
        Its origin, scores of each pool with 95% intervals (see `Run.intervals`), "shares" (layer -> parent -> factor),
        why they cannot be known ("shares_note", where they are empty), for a layer stack its "stack" (layer by layer:
        model, block, gain) and its recipe. The parents need not be at hand.
    """
    recipe, shares = run.recipe(candidate), shares_of(run, candidate)
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
        else {
            "kind": candidate.failure.kind,
            "reason": candidate.failure.reason,
            "detail": candidate.failure.detail,
        },
        "fingerprint": recipe.fingerprint,
        "scores": {pool: _scores(run, candidate, pool) for pool in POOLS if pool in candidate.scores},
        "shares": {block: dict(row) for block, row in shares.factors.items()},
        **({"shares_note": shares.note} if shares.note else {}),
        **({"stack": stack} if (stack := _stack(candidate.recipe)) else {}),
        "recipe": dict(candidate.recipe),
    }


def _stack(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return which block each layer of a layer stack is, with its gain; empty for other recipes."""
    if document.get("merge_method") != "passthrough":
        return []
    blocks = []
    for part in document.get("slices", ()):
        source = part["sources"][0]
        blocks += [(source["model"], block) for block in range(*source["layer_range"])]
    gains = document.get("evomerge", {}).get("gains") or [1.0] * len(blocks)
    return [
        {"layer": layer, "model": str(model), "block": block, "gain": gain}
        for layer, ((model, block), gain) in enumerate(zip(blocks, gains, strict=False))
    ]


def _scores(run: Run, candidate: Candidate, pool: Pool) -> dict[str, Any]:
    intervals = run.intervals(candidate, pool)
    return {
        o.name: {**displayed_score(o, candidate.scores[pool][o.name]), "interval": intervals[o.name]}
        for o in run.objectives
    }
