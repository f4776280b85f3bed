"""Finding methods by name: those of evomerge, those of other packages, and those that a program registers."""

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
from evomerge.plugins import Registry, created

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


def _checked(given: object) -> Method:
    expected = "an object or a subclass of evomerge.methods.Method"
    return created(given, Method, expected)  # type: ignore[type-abstract]


REGISTRY = Registry("methods", "merge method", _BUILT_IN, _checked)


def names() -> tuple[str, ...]:
    """Return the names of all methods: evomerge's own, registered ones, and those that installed packages bring."""
    return REGISTRY.names()


def built_in_names() -> tuple[str, ...]:
    """Return the names of evomerge's own methods."""
    return tuple(_BUILT_IN)


def get(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        InvalidInput: there is none (the message names the closest), or the package that brings it is broken.
    """
    return REGISTRY.get(name)


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


def is_parameter(name: str) -> bool:
    """Tell whether a word stands among the parameters of published recipes: one of any method, or of none."""
    return name in MERGEKIT_WORDS or any(get(method).parameter(name) is not None for method in names())


def register(method: Method | type[Method]) -> Method:
    """Make a method known in this process, under its own name, and return it.

    Args:
        method: an object of a `Method` subclass, or such a class, which is then created without arguments. A name
            that was registered before is replaced; a built-in name is refused.

    Raises:
        InvalidInput: it is no method, or has the name of a built-in one.
    """
    return REGISTRY.register(method)


def registered() -> tuple[Method, ...]:
    """Return the methods that `register` was given in this process."""
    return REGISTRY.registered()
