"""The settings of one tensor: every parameter's value at its place, from the most specific level that has one."""

from collections.abc import Mapping, Sequence

from evomerge.errors import MergeFailed
from evomerge.methods import Method, Settings, Value
from evomerge.recipe import (
    Recipe,
    Slice,
    Source,
    lookup,
)


def settings_at(
    method: Method, recipe: Recipe, part: Slice, sources: Sequence[tuple[Source, str]], name: str, t: float
) -> Settings:
    """Resolve the parameters of one output tensor; the levels are source, slice, module, recipe, the method's default.

    Args:
        method: says which parameters there are, and their defaults.
        recipe: whose parameters they are.
        part: the slice that the tensor belongs to.
        sources: each input and what it calls this tensor, which the filters of per-input parameters look at.
        name: what the output calls it.
        t: depth in the slice, 0 to 1.

    Raises:
        MergeFailed: a parameter without a default has no value here.
    """
    shared: dict[str, Value] = {}
    per_input: list[dict[str, Value]] = [{} for _ in sources]
    outer = [part.parameters, part.module_parameters, recipe.parameters]
    for parameter in method.parameters:
        targets: list[tuple[dict[str, Value], Sequence[Mapping[str, Value]], str, str]] = (
            [(shared, outer, name, "")]
            if parameter.per == "merge"
            else [
                (values, [source.parameters, *outer], tensor, f" of {source.model}")
                for values, (source, tensor) in zip(per_input, sources, strict=True)
            ]
        )
        for values, levels, tensor, whose in targets:
            found = lookup(levels, parameter.name, tensor, t)
            final = parameter.default if found is None else found
            if final is None:
                raise MergeFailed(f"{parameter.name}{whose} has no value for {name}: no filter matches it")
            values[parameter.name] = final if parameter.kind == "flag" else float(final)
    return Settings.of(shared, per_input, recipe.variants)
