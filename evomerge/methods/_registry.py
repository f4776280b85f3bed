"""Finding methods by name: those of evomerge, those of other packages, and those that a program registers."""

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.methods.arcee_fusion import ArceeFusion
from evomerge.methods.breadcrumbs import Breadcrumbs, BreadcrumbsTies
from evomerge.methods.core import Method
from evomerge.methods.dare import DareLinear, DareTies
from evomerge.methods.della import Della, DellaLinear
from evomerge.methods.karcher import Karcher
from evomerge.methods.linear import LinearMean
from evomerge.methods.model_stock import ModelStock
from evomerge.methods.multislerp import MultiSlerp
from evomerge.methods.nearswap import NearSwap
from evomerge.methods.nuslerp import NuSlerp
from evomerge.methods.passthrough import Passthrough
from evomerge.methods.ram import RAM, RAMPlus
from evomerge.methods.sce import SCE
from evomerge.methods.slerp import Slerp
from evomerge.methods.task_arithmetic import TaskArithmetic
from evomerge.methods.ties import Ties
from evomerge.plugins import load_plugin, plugin_names

_BUILT_IN: dict[str, Method] = {
    method.name: method
    for method in (
        *(LinearMean(), Slerp(), NuSlerp(), MultiSlerp(), Karcher(), TaskArithmetic()),
        *(Ties(), DareTies(), DareLinear(), Breadcrumbs(), BreadcrumbsTies(), Della(), DellaLinear()),
        *(SCE(), RAM(), RAMPlus(), ModelStock(), NearSwap(), ArceeFusion(), Passthrough()),
    )
}
MERGEKIT_WORDS = {  # parameters of published recipes that no method has -> what they are
    "int8_mask": "mergekit's memory switch",
    "int_space": "a word of old recipes",
    "dtype": "a key of the recipe, not a parameter",
    "out_dtype": "a key of the recipe, not a parameter",
}
_registered: dict[str, Method] = {}
_from_packages: dict[str, Method] = {}  # loaded so far


def names() -> tuple[str, ...]:
    """Return the names of all methods: evomerge's own, registered ones, and those that installed packages bring."""
    return tuple(dict.fromkeys([*_BUILT_IN, *_registered, *plugin_names("methods")]))


def built_in_names() -> tuple[str, ...]:
    """Return the names of evomerge's own methods."""
    return tuple(_BUILT_IN)


def get(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        InvalidInput: there is none (the message names the closest), or the package that brings it is broken.
    """
    for known_methods in (_BUILT_IN, _registered, _from_packages):
        if name in known_methods:
            return known_methods[name]
    if name in plugin_names("methods"):
        _from_packages[name] = _from_package(name)
        return _from_packages[name]
    known = names()
    raise InvalidInput(f'unknown merge method "{name}"; known are {", ".join(known)}.{did_you_mean(name, known)}')


def without_effect(method: Method, parameter: str) -> str | None:
    """Say why a parameter that `method` does not have may still stand in a recipe for it, where it changes nothing.

    Published recipes carry words over from one method to another, and mergekit reads past them.

    Args:
        method: the method of the recipe.
        parameter: a word among its parameters.

    Returns:
        A phrase for a note, or None: the method has the parameter, or no method knows the word.
    """
    if method.parameter(parameter) is not None:
        return None
    if parameter in MERGEKIT_WORDS:
        return MERGEKIT_WORDS[parameter]
    owners = [name for name in names() if get(name).parameter(parameter) is not None]
    return f"a parameter of {owners[0]}" if owners else None


def register(method: Method | type[Method]) -> Method:
    """Make a method known in this process, under its own name, and return it.

    Args:
        method: an object of a `Method` subclass, or such a class, which is then created without arguments. A name
            that was registered before is replaced; a built-in name is refused.

    Raises:
        InvalidInput: it is no method, or has the name of a built-in one.
    """
    made = _as_method(method, "register")
    if made.name in _BUILT_IN:
        raise InvalidInput(f'a merge method called "{made.name}" is built in; give yours another name')
    _registered[made.name] = made
    return made


def registered() -> tuple[Method, ...]:
    """Return the methods that `register` was given in this process."""
    return tuple(_registered.values())


def _from_package(name: str) -> Method:
    method = _as_method(load_plugin("methods", name), f'the entry point evomerge.methods "{name}"')
    if method.name != name:
        raise InvalidInput(
            f'the entry point evomerge.methods "{name}" gives a method called "{method.name}"; the names must be equal'
        )
    return method


def _as_method(value: object, where: str) -> Method:
    if isinstance(value, type) and issubclass(value, Method):
        try:
            value = value()
        except TypeError as error:
            raise InvalidInput(f"{where}: {error}") from error
    if not isinstance(value, Method):
        raise InvalidInput(f"{where}: found {type(value).__name__}, expected a subclass of evomerge.methods.Method")
    return value
