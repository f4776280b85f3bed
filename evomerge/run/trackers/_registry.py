"""From a tracker's name and options in a search file to an object, or to what is wrong with them."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evomerge.errors import EvomergeError, InvalidInput, did_you_mean
from evomerge.plugins import Registry
from evomerge.run.trackers._tracker import Tracker, is_tracker

Factory = Callable[..., Tracker]

_BUILT_IN = {
    "jsonl": "evomerge.run.trackers.jsonl:JsonLines",
    "optuna": "evomerge.run.trackers.optuna:OptunaStudy",
    "tensorboard": "evomerge.run.trackers.tensorboard:Tensorboard",
    "trackio": "evomerge.run.trackers.trackio:Trackio",
    "mlflow": "evomerge.run.trackers.mlflow:Mlflow",
    "wandb": "evomerge.run.trackers.wandb:Wandb",
}


def _checked(given: object) -> Factory:
    if not callable(given):
        raise InvalidInput(f"found {given!r}, expected a class or function that creates a tracker")
    factory: Factory = given
    return factory


REGISTRY = Registry("trackers", "tracker", _BUILT_IN, _checked)


def register(factory: type[Tracker] | Factory, name: str | None = None) -> None:
    """Make a tracker known to the search files of this process.

    Args:
        factory: a class (or function) that creates a tracker from the options of the search file, given as keyword
            arguments. Registering a name again replaces it, so that a notebook's cell can be run twice.
        name: what a search file calls it; by default the factory's own `name`.

    Raises:
        InvalidInput: there is no such factory or name, or the name is a built-in one.
    """
    name = name if name is not None else getattr(factory, "name", "")
    if not callable(factory) or not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InvalidInput(
            f"{factory!r} cannot be registered as a tracker named {name!r}; expected a class or function, and a name "
            'of letters, digits, "_" and "-"'
        )
    REGISTRY.register(factory, name)


def names() -> tuple[str, ...]:
    """Return the known names: built-in, then registered, then those of installed packages."""
    return REGISTRY.names()


def option_problems(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a tracker's name and option names, one sentence each; empty if nothing is."""
    try:
        return list(_option_problems(name, REGISTRY.get(name), options))
    except InvalidInput as error:
        return [str(error)]


def create(name: str, options: Mapping[str, Any]) -> Tracker:
    """Create a tracker.

    Args:
        name: one of `names()`.
        options: keyword arguments of its factory.

    Raises:
        InvalidInput: with every problem of name and options, or with what the factory itself refused.
    """
    if problems := option_problems(name, options):
        raise InvalidInput("\n".join(problems))
    try:
        tracker = REGISTRY.get(name)(**options)
    except EvomergeError:
        raise
    except Exception as error:  # foreign code: whatever it raises is about the options that it was given
        raise InvalidInput(f"tracker {name} refused its options ({type(error).__name__}: {error})") from error
    if not is_tracker(tracker):
        raise InvalidInput(
            f"tracker {name} is a {type(tracker).__name__}, which lacks a name or one of the methods started, "
            "candidate_scored, front_changed and ended; subclass evomerge.run.trackers.Tracker"
        )
    return tracker


def _option_problems(name: str, factory: Factory, options: Mapping[str, Any]) -> Iterator[str]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a callable without a readable signature refuses its options itself
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for option in options:
        if option not in known:
            listed = ", ".join(known) or "none"
            yield f'tracker {name} has no option "{option}"; known: {listed}.{did_you_mean(option, known)}'
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            yield f"tracker {name} needs the option {option}"
