"""Evaluators by name: built-in ones, those of installed packages, and those that this process registered."""

from functools import cache
from importlib import import_module
from typing import Any

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.evaluation._evaluator import Evaluator
from evomerge.plugins import load_plugin, plugin_names

BUILT_IN = {
    "lm_eval_task": "evomerge.evaluation.lm_eval_task:LmEvalTask",
    "python_scorer": "evomerge.evaluation.python_scorer:PythonScorer",
}
_REGISTERED: dict[str, Evaluator] = {}


def names() -> tuple[str, ...]:
    """Return the names of all evaluators: built-in ones first, then registered ones and those of installed packages."""
    return tuple(dict.fromkeys([*BUILT_IN, *_REGISTERED, *plugin_names("evaluators")]))


def get(name: str) -> Evaluator:
    """Return an evaluator by name.

    Raises:
        InvalidInput: there is none of this name, or the package that brings it is broken.
    """
    if name in BUILT_IN:
        return _built_in(name)
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in plugin_names("evaluators"):
        return _of_package(name)
    raise InvalidInput(f'no evaluator is called "{name}"; known: {", ".join(names())}.{did_you_mean(name, names())}')


@cache
def _built_in(name: str) -> Evaluator:
    module, _, attribute = BUILT_IN[name].partition(":")
    return checked(getattr(import_module(module), attribute), name)


@cache
def _of_package(name: str) -> Evaluator:
    return checked(load_plugin("evaluators", name), name)


def register(evaluator: Evaluator | type[Evaluator]) -> Evaluator:
    """Make an evaluator known by its name in this process, in place of an earlier one of that name.

    Args:
        evaluator: an instance, or a class that is created without arguments.

    Returns:
        The instance.

    Raises:
        InvalidInput: it is no evaluator, or has the name of a built-in one.
    """
    found = checked(evaluator)
    if found.name in BUILT_IN:
        raise InvalidInput(f'"{found.name}" is a built-in evaluator; give yours another name')
    _REGISTERED[found.name] = found
    return found


def checked(found: Any, name: str | None = None) -> Evaluator:
    """Return an instance of what a package or a caller gave.

    Args:
        found: an evaluator, or a class that is created without arguments.
        name: what it must be called, or None.

    Raises:
        InvalidInput: it is no evaluator, or has no name or another one.
    """
    evaluator = found
    if isinstance(found, type) and issubclass(found, Evaluator):
        try:
            evaluator = found()
        except TypeError as error:  # abstract, or it takes arguments
            raise InvalidInput(f"{found.__name__} cannot be created without arguments ({error})") from error
    if not isinstance(evaluator, Evaluator):
        raise InvalidInput(f"{found!r} is no evaluator; derive it from evomerge.evaluation.Evaluator")
    own = getattr(evaluator, "name", None)
    if not isinstance(own, str) or not own:
        raise InvalidInput(f"{type(evaluator).__name__} has no name; set the class attribute `name`")
    if name is not None and own != name:
        raise InvalidInput(f'the evaluator "{name}" calls itself "{own}"; use one name')
    return evaluator
