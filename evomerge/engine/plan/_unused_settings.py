"""What a recipe sets that changes no number: nothing of it is an error, and nothing of it goes unsaid."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge import methods
from evomerge.engine._plan_records import TensorPlan
from evomerge.recipe import Recipe, Setting


def without_effect(recipe: Recipe, tensors: Sequence[TensorPlan]) -> Iterator[str]:
    """Yield a line for each parameter, filter and key of a recipe that has no effect.

    Args:
        recipe: what was planned.
        tensors: its plan.
    """
    used = [methods.get(name) for name in recipe.methods]
    levels = list(_levels(recipe))
    for name in dict.fromkeys(name for level in levels for name in level):
        reasons = [methods.without_effect(method, name) for method in used]
        if None not in reasons:
            names = " and ".join(method.name for method in used)
            yield f"{name} is accepted but has no effect with {names} ({reasons[0]})"
    for method in used if all(method.base != "input" for method in used) else ():
        yield from _of_base(recipe, method)
    filters = [pattern for level in levels for setting in level.values() for pattern in _filters(setting)]
    for pattern in dict.fromkeys((*filters, *(pattern for pattern, _ in recipe.rules))):
        if not any(pattern in name for tensor in tensors for name in _names(tensor)):
            yield f'the filter "{pattern}" is part of no tensor\'s name, so its value is never used'
    if _has_residual_weight(recipe.document):
        yield "residual_weight is accepted but has no effect, as in mergekit"


def _of_base(recipe: Recipe, method: methods.Method) -> Iterator[str]:
    """Yield a line for each parameter that is given to the base although it has none."""
    for name in [parameter.name for parameter in method.parameters if parameter.per == "parent"]:
        for part in recipe.slices:
            base = part.base or recipe.base
            if any(source.model == base and name in source.parameters for source in part.sources):
                yield f"{name} of {base} has no effect: it is the base, and {method.name} weighs the others against it"
                break


def _levels(recipe: Recipe) -> Iterator[Mapping[str, Setting]]:
    """Yield the parameters of every place of a recipe that can have some."""
    yield recipe.parameters
    for part in recipe.slices:
        yield part.module_parameters
        yield part.parameters
        yield from (source.parameters for source in part.sources)


def _filters(setting: Setting) -> Iterator[str]:
    """Yield the patterns that a parameter's values are conditional on."""
    for conditional in setting if isinstance(setting, list) else [setting]:
        if isinstance(conditional, Mapping) and conditional.get("filter") not in (None, "*"):
            yield conditional["filter"]


def _names(tensor: TensorPlan) -> Iterator[str]:
    """Yield what filters are held against: the tensor's name in the result and in the inputs."""
    yield tensor.name
    yield from (origin.tensor for origin in tensor.models)


def _has_residual_weight(document: Mapping[str, Any]) -> bool:
    bodies = [document, *(document.get("modules") or {}).values()]
    return any("residual_weight" in part for body in bodies for part in body.get("slices") or ())
