"""What every search is measured against: each parent, and simple baselines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from evomerge.records import Kind

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
