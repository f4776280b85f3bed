"""Evaluators by name: built-in ones, those that this process registered, and those of installed packages."""

from evomerge.errors import InvalidInput
from evomerge.evaluation._evaluator import Evaluator
from evomerge.plugins import Registry, created

BUILT_IN = {
    "lm_eval_task": "evomerge.evaluation.lm_eval_task:LmEvalTask",
    "python_scorer": "evomerge.evaluation.python_scorer:PythonScorer",
    "layers": "evomerge.evaluation.layers:Layers",
}


def checked(given: object) -> Evaluator:
    """Return an instance of what a package or a caller gave.

    Args:
        given: an evaluator, or a class that is created without arguments.

    Raises:
        InvalidInput: it is no evaluator, or has no name.
    """
    expected = "an object or a subclass of evomerge.evaluation.Evaluator"
    evaluator = created(given, Evaluator, expected)  # type: ignore[type-abstract]
    own = getattr(evaluator, "name", None)
    if not isinstance(own, str) or not own:
        raise InvalidInput(f"{type(evaluator).__name__} has no name; set the class attribute `name`")
    return evaluator


REGISTRY = Registry("evaluators", "evaluator", BUILT_IN, checked)


def names() -> tuple[str, ...]:
    """Return the names of all evaluators: built-in ones first, then registered ones and those of installed packages."""
    return REGISTRY.names()


def get(name: str) -> Evaluator:
    """Return an evaluator by name.

    Raises:
        InvalidInput: there is none of this name, or the package that brings it is broken.
    """
    return REGISTRY.get(name)


def register(evaluator: Evaluator | type[Evaluator]) -> Evaluator:
    """Make an evaluator known by its name in this process, in place of an earlier one of that name.

    Args:
        evaluator: an instance, or a class that is created without arguments.

    Returns:
        The instance.

    Raises:
        InvalidInput: it is no evaluator, or has the name of a built-in one.
    """
    return REGISTRY.register(evaluator)
