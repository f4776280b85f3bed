"""What every search is measured against: each parent, and simple baselines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evomerge import methods
from evomerge.errors import InvalidInput
from evomerge.records import Kind, Point
from evomerge.space._protocol import Space

BASELINE_WEIGHTS = (0.3, 0.5, 0.7, 1.0)
"""Weights of the task-arithmetic baselines: those that papers and people try first."""

TOLERANCE = 1e-12  # of a sum of weights
_PLAIN_KEYS = {"merge_method", "base_model", "models", "parameters", "dtype", "evomerge"}
_SOURCE_KEYS = {"seed", "commits", "parents_in"}  # of the evomerge: block, without effect on an average


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


def references(
    base: str | None,
    models: Sequence[str],
    dtype: str | None = None,
    tokenizer: Mapping[str, Any] | None = None,
    moved: Sequence[str] = (),
    *,
    parts: Sequence[str] = (),
) -> list[Reference]:
    """Return the references of a search: each parent, the uniform average, and task arithmetic at a few weights.

    A parent is scored as it is, with its own tokenizer: that is the model that a user would keep. Where the candidates'
    tokenizer is another one, the parent on it is a reference of its own, which says what the change costs.

    Args:
        base: name of the base model, or None.
        models: names of the other models.
        dtype: of every reference, or None: the parents' own.
        tokenizer: of every merge, as recipes name it, or None.
        moved: parents whose own tokenizer that is not.
        parts: that simple merges are made of, where the models have others that differ; empty = whole models.
    """
    extra: dict[str, Any] = {"dtype": dtype} if dtype else {}

    def merged(entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {"modules": {part: {"models": entries} for part in parts}} if parts else {"models": entries}

    found = [
        Reference(name, "parent", {"merge_method": "passthrough", "models": [{"model": name}], **extra})
        for name in ([base, *models] if base else models)
    ]
    if tokenizer is not None:
        extra = {**extra, "tokenizer": dict(tokenizer)}
    for name in moved:
        entries = [{"model": model, "parameters": {"weight": float(model == name)}} for model in models]
        method = {"merge_method": "task_arithmetic", "base_model": base} if base else {"merge_method": "linear"}
        document = {**method, **merged(entries), **extra}
        found.append(Reference(f"{name} with the result's tokenizer", "simple", document))
    weighted = [{"model": model, "parameters": {"weight": 1.0}} for model in models]
    if len(models) > 1:
        on_base = {"base_model": base} if base else {}
        found.append(
            Reference("uniform average", "simple", {"merge_method": "linear", **on_base, **merged(weighted), **extra})
        )
    if base:
        for weight in BASELINE_WEIGHTS:
            entries = [{"model": model, "parameters": {"weight": weight}} for model in models]
            document = {"merge_method": "task_arithmetic", "base_model": base, **merged(entries), **extra}
            found.append(Reference(f"task arithmetic {weight:g}", "simple", document))
    return found


def reference_point(space: Space, reference: Reference, base: str | None, models: Sequence[str]) -> Point | None:
    """Return the point of a space that is the same merge as a reference, up to the space's grid; None if it has none.

    The base is weight 0 of every model, or no model at all; a parent is weight 1 of one, also by TIES or DARE at
    density 1, where nothing is thinned and no sign contested; the uniform average is equal weights, and so on.

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
    shares = abs(math.fsum(weights) - 1) < TOLERANCE  # of the models, none left for the base
    alone = sum(weight != 0 for weight in weights) <= 1
    on_base = {"base_model": base} if base else {}
    found: list[dict[str, Any]] = []

    def add(method: str, **more: float) -> None:
        entries: list[dict[str, Any]] = [
            {"model": model, "parameters": {"weight": weight, **more}}
            for model, weight in zip(models, weights, strict=True)
        ]
        present = [entry for entry, weight in zip(entries, weights, strict=True) if weight] or [{"model": base}]
        document = {"merge_method": method, **on_base}
        found.extend({**document, "models": listed} for listed in ([present] if len(present) < len(entries) else []))
        found.append({**document, "models": entries})

    if base is not None:
        add("task_arithmetic")
        for name in methods.built_in_names():
            method = methods.get(name)
            elects = getattr(method, "elect", True)  # signs, which are those of a single model's task vector
            if method.parameter("density") is not None and (alone or not elects):
                add(name, density=1.0)
        found += [{**document, "parameters": {"normalize": True}} for document in found if shares]
    if shares:
        add("linear")
    pair = list(models) if base is None else [base, *models]
    if len(pair) == 2:
        t = {"parameters": {"t": weights[-1]}}
        found.append({"merge_method": "slerp", "base_model": pair[0], "models": [{"model": pair[1]}], **t})
    return found


def _task_weights(document: Mapping[str, Any], base: str | None, models: Sequence[str]) -> list[float] | None:
    """Return the weight of each model's task vector (of each model, without a base) in a reference, if it has such."""
    method, entries = document.get("merge_method"), document.get("models", [])
    names = [entry["model"] for entry in entries]
    known = {*models, *([base] if base else [])}
    if set(document) - _PLAIN_KEYS or set(document.get("evomerge") or {}) - _SOURCE_KEYS:
        return None
    if not all(isinstance(name, str) and name in known for name in names) or document.get("parameters"):
        return None
    if method == "passthrough" and len(names) == 1 and not entries[0].get("parameters"):
        return [float(model == names[0]) for model in models]
    given: dict[str, Any] = {entry["model"]: entry.get("parameters", {}) for entry in entries}
    if method == "task_arithmetic":
        given.pop(str(base), None)
    if method not in ("linear", "task_arithmetic") or not all(set(own) == {"weight"} for own in given.values()):
        return None
    weights = {name: own["weight"] for name, own in given.items()}
    if not all(isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights.values()):
        return None
    total = math.fsum(weights.values()) if method == "linear" else 1.0
    return [weights.get(model, 0.0) / total for model in models] if total else None
