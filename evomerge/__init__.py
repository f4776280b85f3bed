"""evomerge: find the best merge of language models by evolutionary search, and prove that it is better.

    import evomerge

    evomerge.merge("recipe.yaml", "merged/")
    run = evomerge.optimizers("search.yaml", "runs/night")
    for candidate in run.front: ...

Importing this package loads neither torch, ray nor lm_eval; a name loads what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.api.evaluate import evaluate
    from evomerge.api.lora import extract_lora
    from evomerge.api.merge import merge
    from evomerge.api.moe import moe
    from evomerge.api.search import search
    from evomerge.api.soup import soup
    from evomerge.results import export
    from evomerge.run import Run

_HOMES = {
    "Run": "evomerge.run",
    "evaluate": "evomerge.api.evaluate",
    "export": "evomerge.results",
    "extract_lora": "evomerge.api.lora",
    "merge": "evomerge.api.merge",
    "moe": "evomerge.api.moe",
    "search": "evomerge.api.search",
    "soup": "evomerge.api.soup",
}

__all__ = ["Run", "evaluate", "export", "extract_lora", "merge", "moe", "search", "soup"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("evomerge")
    if name not in _HOMES:
        raise AttributeError(f"module 'evomerge' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
