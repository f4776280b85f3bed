"""evomerge: find the best merge of language models by evolutionary search, and prove that it is better.

    import evomerge

    evomerge.merge("recipe.yaml", "merged/")
    run = evomerge.search("search.yaml", "runs/night")
    for candidate in run.front: ...

Importing this package loads neither torch, ray nor lm_eval; a name loads what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge._merging import merge
    from evomerge.api import evaluate, extract_lora, moe, soup
    from evomerge.export import export
    from evomerge.run import Run, search

_HOMES = {
    "Run": "evomerge.run",
    "evaluate": "evomerge.api",
    "export": "evomerge.export",
    "extract_lora": "evomerge.api",
    "merge": "evomerge._merging",
    "moe": "evomerge.api",
    "search": "evomerge.run",
    "soup": "evomerge.api",
}

__all__ = ["Run", "evaluate", "export", "extract_lora", "merge", "moe", "search", "soup"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("evomerge")
    if name not in _HOMES:
        raise AttributeError(f"module 'evomerge' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
