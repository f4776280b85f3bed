"""What every search is measured against: each parent, the uniform average, and a small task-arithmetic grid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from evomerge.records import Kind

GRID = (0.3, 0.5, 0.7, 1.0)  # task-arithmetic weights that papers and people try first


class Reference(NamedTuple):
    """A named recipe (as plain data) that is scored in generation 0 and that the pick must beat."""

    name: str
    kind: Kind
    document: dict[str, Any]


def references(base: str | None, models: Sequence[str], dtype: str | None = None) -> list[Reference]:
    """Return the references of a search over these parents."""
    extra = {"dtype": dtype} if dtype else {}
    found = [
        Reference(name, "parent", {"merge_method": "passthrough", "models": [{"model": name}], **extra})
        for name in ([base, *models] if base else models)
    ]
    weighted = [{"model": model, "parameters": {"weight": 1.0}} for model in models]
    if len(models) > 1:
        donor = {"base_model": base} if base else {}
        found.append(
            Reference("uniform average", "simple", {"merge_method": "linear", **donor, "models": weighted, **extra})
        )
    if base:
        for weight in GRID:
            entries = [{"model": model, "parameters": {"weight": weight}} for model in models]
            document = {"merge_method": "task_arithmetic", "base_model": base, "models": entries, **extra}
            found.append(Reference(f"task arithmetic {weight:g}", "simple", document))
    return found
