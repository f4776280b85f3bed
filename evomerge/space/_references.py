"""What every search is measured against: each parent, and simple baselines."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evomerge.errors import InvalidInput
from evomerge.records import Kind, Point
from evomerge.space._protocol import Space

BASELINE_WEIGHTS = (0.3, 0.5, 0.7, 1.0)
"""Weights of the task-arithmetic baselines: those that papers and people try first."""


class Reference(NamedTuple):
    """A named recipe that is scored in generation 0 and that the pick must beat.

    Attributes:
        name: for people.
        kind: "parent", "simple" or "control".
        document: the recipe, plain data.
    """

    name: str
    kind: Kind
    document: dict[str, Any]


def references(base: str | None, models: Sequence[str], dtype: str | None = None) -> list[Reference]:
    """Return the references of a search: each parent, the uniform average, and task arithmetic at a few weights.

    Args:
        base: name of the base model, or None.
        models: names of the other models.
        dtype: of every reference, or None: the parents' own.
    """
    extra = {"dtype": dtype} if dtype else {}
    found = [
        Reference(name, "parent", {"merge_method": "passthrough", "models": [{"model": name}], **extra})
        for name in ([base, *models] if base else models)
    ]
    weighted = [{"model": model, "parameters": {"weight": 1.0}} for model in models]
    if len(models) > 1:
        on_base = {"base_model": base} if base else {}
        found.append(
            Reference("uniform average", "simple", {"merge_method": "linear", **on_base, "models": weighted, **extra})
        )
    if base:
        for weight in BASELINE_WEIGHTS:
            entries = [{"model": model, "parameters": {"weight": weight}} for model in models]
            document = {"merge_method": "task_arithmetic", "base_model": base, "models": entries, **extra}
            found.append(Reference(f"task arithmetic {weight:g}", "simple", document))
    return found


def reference_point(space: Space, reference: Reference, base: str | None, models: Sequence[str]) -> Point | None:
    """Return the point of a space that is the same merge as a reference, up to the space's grid; None if it has none.

    The base is weight 0 of every model and a parent weight 1 of one, the uniform average is equal weights, and so on.

    Args:
        space: of the search.
        reference: one of the search's references.
        base: name of the base model, or None.
        models: names of the other models.
    """
    for document in (reference.document, *_same_merges(reference, base, models)):
        try:
            return space.encode(document)
        except InvalidInput:
            continue
    return None


def _same_merges(reference: Reference, base: str | None, models: Sequence[str]) -> list[dict[str, Any]]:
    """Return other recipes of the same merge, by methods whose weights spaces vary."""
    weights = _task_weights(reference.document, base, models)
    if weights is None:
        return []
    on_base = {"base_model": base} if base else {}

    def document(method: str, **more: float) -> dict[str, Any]:
        entries = [
            {"model": model, "parameters": {"weight": weight, **more}}
            for model, weight in zip(models, weights, strict=True)
        ]
        return {"merge_method": method, **on_base, "models": entries}

    if base is None:
        return [document("linear")]
    found = [document("task_arithmetic"), document("dare_linear", density=1.0)]
    if len(models) == 1:
        t = weights[0]
        found.append({"merge_method": "slerp", **on_base, "models": [{"model": models[0]}], "parameters": {"t": t}})
    return found


def _task_weights(document: Mapping[str, Any], base: str | None, models: Sequence[str]) -> list[float] | None:
    """Return the weight of each model's task vector (of each model, without a base) in a reference, if it has such."""
    method = document["merge_method"]
    if method == "passthrough" and len(document.get("models", [])) == 1:
        name = document["models"][0]["model"]
        return [float(model == name) for model in models] if name in (base, *models) else None
    given = {entry["model"]: entry.get("parameters", {}).get("weight") for entry in document.get("models", [])}
    if list(given) != list(models) or not all(isinstance(weight, int | float) for weight in given.values()):
        return None
    if method == "linear":
        return [weight / sum(given.values()) for weight in given.values()]
    return [float(weight) for weight in given.values()] if method == "task_arithmetic" else None
