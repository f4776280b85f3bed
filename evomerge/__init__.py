"""evomerge: find the best merge of language models by evolutionary search, and prove that it is better.

    import evomerge

    evomerge.merge("recipe.yaml", "merged/")
    run = evomerge.search("search.yaml", "runs/my-search")
    for candidate in run.front: ...

Importing this package loads neither torch, ray nor lm_eval; a name loads what it needs when it is first used. No
folder below has the name of a public function, so that importing a package can never hide one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.api.evaluate import evaluate
    from evomerge.api.export import export
    from evomerge.api.init import init
    from evomerge.api.lora import extract_lora
    from evomerge.api.merge import merge
    from evomerge.api.merge_files import merge_files
    from evomerge.api.moe import moe
    from evomerge.api.report import report
    from evomerge.api.search import search
    from evomerge.api.soup import soup
    from evomerge.api.transplant import transplant
    from evomerge.results import Run

# Public name -> the module that defines it, imported when the name is first used.
_MODULES = {
    "Run": "evomerge.results",
    "evaluate": "evomerge.api.evaluate",
    "export": "evomerge.api.export",
    "extract_lora": "evomerge.api.lora",
    "init": "evomerge.api.init",
    "merge": "evomerge.api.merge",
    "merge_files": "evomerge.api.merge_files",
    "moe": "evomerge.api.moe",
    "report": "evomerge.api.report",
    "search": "evomerge.api.search",
    "soup": "evomerge.api.soup",
    "transplant": "evomerge.api.transplant",
}

__all__ = [
    "Run",
    "evaluate",
    "export",
    "extract_lora",
    "init",
    "merge",
    "merge_files",
    "moe",
    "report",
    "search",
    "soup",
    "transplant",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("evomerge")
    if name not in _MODULES:
        raise AttributeError(f"module 'evomerge' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
