"""One candidate, explained: where it comes from, what each parent contributes by layer, what it scored."""

from collections.abc import Mapping
from typing import Any

from evomerge.checkpoint import Layout, Parents
from evomerge.engine import Plan, TensorPlan, make_plan
from evomerge.records import POOLS, Candidate
from evomerge.report._front import shown
from evomerge.run import Run

LOOSE = "embeddings, norm and head"
CONFIDENT = 1.96  # standard errors on either side of a 95% interval


def explain_document(run: Run, candidate: Candidate) -> dict[str, Any]:
    """Return lineage, scores with 95% intervals, shares by layer and the recipe of a candidate.

    Raises:
        EvomergeError: the parents cannot be found any more, so that no shares can be computed.
    """
    recipe = run.recipe(candidate)
    plan = None
    if candidate.failure is None or candidate.failure.kind != "infeasible":
        plan = make_plan(recipe, Parents(recipe.models, recipe.root))
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
        "shares": {} if plan is None else shares(plan),
        "recipe": dict(candidate.recipe),
    }


def _scores(run: Run, candidate: Candidate, pool: Any) -> dict[str, Any]:
    found = {}
    for objective in run.objectives:
        score = shown(objective, candidate.scores[pool][objective.name])
        half = CONFIDENT * (score["stderr"] or 0.0)
        found[objective.name] = {**score, "interval": [score["value"] - half, score["value"] + half]}
    return found


def shares(plan: Plan) -> dict[str, dict[str, float]]:
    """Return block -> parent -> factor on that parent (on its task vector, where the method has a base).

    Averaged over the block's tensors by their number of elements; densities multiply weights. A base's factor is not
    listed: it is what the result starts from.
    """
    layout = Layout.of(tensor.name for tensor in plan.tensors)
    sums: dict[str, dict[str, float]] = {}
    sizes: dict[str, float] = {}
    for tensor in plan.tensors:
        place = layout.place(tensor.name)
        label = f"layer {place.layer}" if place.part == "block" else LOOSE
        elements = tensor.info.size_bytes / tensor.dtype.itemsize
        sizes[label] = sizes.get(label, 0.0) + elements
        for parent, factor in _factors(tensor).items():
            row = sums.setdefault(label, {})
            row[parent] = row.get(parent, 0.0) + factor * elements
    ordered = sorted(sums, key=lambda label: (label == LOOSE, int(label.split()[-1]) if label != LOOSE else 0))
    return {label: {parent: total / sizes[label] for parent, total in sums[label].items()} for label in ordered}


def _factors(tensor: TensorPlan) -> Mapping[str, float]:
    """Return parent -> factor of one tensor."""
    names = [str(origin.model) for origin in tensor.models]
    found: dict[str, float] = {}
    shared = dict(tensor.settings.merge)
    for name, values in zip(names, tensor.settings.parents, strict=True) if tensor.settings.parents else ():
        known = dict(values)
        factor = float(known.get("weight", known.get("scale", shared.get("t", 1.0)))) * float(known.get("density", 1.0))
        found[name] = found.get(name, 0.0) + factor
    if not tensor.settings.parents:
        found = dict.fromkeys(names, 1.0)
    if tensor.base is not None and "t" in shared:
        found[str(tensor.base.model)] = 1.0 - float(shared["t"])
    return found
