"""What other packages add to evomerge: objects behind entry points, found by name and loaded when first used.

A package declares, for example::

    [project.entry-points."evomerge.methods"]
    my_method = "my_package:MY_METHOD"

Every kind of extension has a registry of its own (methods, optimizers, evaluators, spaces, trackers), which looks here
for the names that it does not know itself. Built-in names always win, so that no installed package can change what an
existing file means. Nothing is imported before its name is requested.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from evomerge.errors import InvalidInput

Group = Literal["methods", "optimizers", "evaluators", "spaces", "trackers"]


@cache
def _installed(group: Group) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"evomerge.{group}")}


def plugin_names(group: Group) -> tuple[str, ...]:
    """Return the names that installed packages bring for a kind of extension, sorted; nothing is imported.

    Args:
        group: the kind of extension, the part of the entry-point group after "evomerge.".
    """
    return tuple(sorted(_installed(group)))


@cache
def load_plugin(group: Group, name: str) -> Any:
    """Return the object behind an entry point.

    Args:
        group: the kind of extension.
        name: one of `plugin_names(group)`.

    Raises:
        InvalidInput: importing it failed; the sentence names the package and the cause.
        KeyError: no installed package brings this name.
    """
    point = _installed(group)[name]
    try:
        return point.load()
    except Exception as error:  # foreign code: whatever it raises is the package's fault, and must be named as such
        package = point.dist.name if point.dist else "an installed package"
        raise InvalidInput(
            f'"{name}" of {package} (entry point evomerge.{group}, {point.value}) cannot be loaded: '
            f"{type(error).__name__}: {error}; correct or remove that package"
        ) from error
