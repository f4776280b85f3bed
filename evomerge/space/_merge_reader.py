"""From a recipe to the point of a space of merges: every tensor's values must be ones that the space can give it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge import methods
from evomerge.errors import InvalidInput
from evomerge.methods import Method
from evomerge.records import Point
from evomerge.space.genes import Gene, Grid, Option

if TYPE_CHECKING:
    from evomerge.space.merge import MergeSpace

_Parameters = Mapping[str, Any]


def read_point(space: "MergeSpace", document: Mapping[str, Any]) -> Point:
    """Return the point of a recipe.

    Raises:
        InvalidInput: the recipe's methods, models or values lie outside the space.
    """
    _check_keys(space, document)
    chosen = _methods(space, document)
    bodies = _bodies(space, document)
    given = {part: _models(space, chosen, document, body) for part, body in bodies.items()}
    taking = _taking(space, given)
    for part, models in given.items():
        _check_fixed(space, chosen, part, _shared(document, bodies[part]), models)
    values: list[list[float]] = []
    for number, gene in enumerate(space.genes):
        used = space.used_groups(number, chosen)
        start = gene.scale.coordinate(gene.start)  # type: ignore[arg-type]
        if used is None:
            values.append([start] * gene.size)
            continue
        shared = _shared(document, bodies[gene.part])
        if gene.variant:
            values.append([_variant(gene, chosen, document)])
            continue
        columns = _columns(space, gene, shared, given[gene.part], chosen, used)
        _check_total(gene, columns, used)
        values.append(
            [
                start if value is None else gene.scale.coordinate(value)  # type: ignore[arg-type]
                for column in columns
                for value in (column or _absent(gene))
            ]
        )
    numbers = [space.method_names.index(method.name) for method in chosen]
    return space.point(values, numbers[: space.method_choices], [model in taking for model in space.models])


def _check_keys(space: "MergeSpace", document: Mapping[str, Any]) -> None:
    """Raise InvalidInput if a recipe says what no recipe of the space says, and what changes the merge."""
    further = set(document) - {"merge_method", "base_model", "models", "modules", "parameters", "dtype", "evomerge"}
    if further:
        raise InvalidInput(f"the recipe has {', '.join(sorted(further))}, which no recipe of this space has")
    own, fixed = (dict(extension or {}) for extension in (document.get("evomerge"), space.extension))
    varied = {gene.name for gene in space.genes if gene.variant}
    for extension in (own, fixed):
        variants = {name: option for name, option in extension.pop("variants", {}).items() if name not in varied}
        extension["variants"] = variants
        for key in ("methods", "seed", "commits", "parents_in"):  # varied; of masks; where parents come from
            extension.pop(key, None)
    if own != fixed:
        differing = sorted(key for key in own.keys() | fixed.keys() if own.get(key) != fixed.get(key))
        raise InvalidInput(f"the recipe's evomerge: {', '.join(differing)} is not that of this space")


def _methods(space: "MergeSpace", document: Mapping[str, Any]) -> list[Method]:
    """Return the method of each method group, or the one of all."""
    main = str(document.get("merge_method"))
    rules = [(str(rule["filter"]), str(rule["method"])) for rule in document.get("evomerge", {}).get("methods", [])]
    for name in (main, *(name for _, name in rules)):
        if name not in space.method_names:
            raise InvalidInput(f'method "{name}" is not in this space')
    if not space.method_groups:
        if any(name != main for _, name in rules):
            raise InvalidInput("the recipe merges some tensors by another method, this space all by one")
        return [methods.get(main)]
    found = []
    for group, members in zip(space.method_groups, space.method_members, strict=True):
        own = {next((name for part, name in rules if part in place.name), main) for place in members} or {main}
        if len(own) > 1:
            raise InvalidInput(f"the recipe merges {group.label} by {' and '.join(sorted(own))}, this space by one")
        found.append(methods.get(own.pop()))
    return found


def _bodies(space: "MergeSpace", document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what holds the models of each part that the space merges."""
    modules = document.get("modules")
    if not space.parts:
        if modules is not None:
            raise InvalidInput("the recipe merges parts of the models, this space whole models")
        return {"": document}
    if modules is None and (space.all_parts or _is_base(space, document)):
        return dict.fromkeys(space.parts, document)
    if modules is None or set(modules) != set(space.parts):
        raise InvalidInput(f"the recipe does not merge just the parts of this space: {', '.join(space.parts)}")
    return {part: modules[part] for part in space.parts}


def _is_base(space: "MergeSpace", document: Mapping[str, Any]) -> bool:
    """Tell whether a recipe gives the base, as it adds nothing to it."""
    method = methods.get(str(document.get("merge_method")))
    own = [entry.get("parameters", {}) for entry in document.get("models", []) if entry["model"] != space.base]
    return method.base == "required" and all(parameters.get("weight") == 0 for parameters in own)


def _shared(document: Mapping[str, Any], body: Mapping[str, Any]) -> _Parameters:
    """Return the parameters that hold for all models of a part."""
    return {**document.get("parameters", {}), **body.get("parameters", {})}


def _models(
    space: "MergeSpace", chosen: Sequence[Method], document: Mapping[str, Any], body: Mapping[str, Any]
) -> dict[str, _Parameters]:
    """Return the models of a part that take part, with their parameters."""
    given = {str(entry["model"]): entry.get("parameters", {}) for entry in body.get("models", [])}
    if any(method.base != "input" for method in chosen):
        if document.get("base_model") != space.base:
            raise InvalidInput("the recipe's base_model is not that of this space")
        if all(method.base != "input" for method in chosen):
            given.pop(str(space.base), None)  # listed among the models or not, it is the base
    return given


def _taking(space: "MergeSpace", given: Mapping[str, Mapping[str, _Parameters]]) -> set[str]:
    """Return the models that take part, the same in every part."""
    first, *others = (set(models) for models in given.values())
    if any(other != first for other in others):
        raise InvalidInput("the recipe merges other models in one part than in another")
    if space.selection is None and first != set(space.models):
        raise InvalidInput("the recipe's models are not those of this space")
    if not first <= set(space.models):
        raise InvalidInput(f"{min(first - set(space.models))} is not among the models of this space")
    if space.selection is not None:
        space.selection.check(len(first))
    return first


def _check_fixed(
    space: "MergeSpace",
    chosen: Sequence[Method],
    part: str,
    shared: _Parameters,
    given: Mapping[str, _Parameters],
) -> None:
    """Raise InvalidInput if a recipe gives a parameter that does not vary another value than this space does."""
    varied = {gene.name for gene in space.genes if gene.part == part}
    fixed = {**space.parameters, **space.parts.get(part, {})}
    for parameter in {p.name: p for method in chosen for p in method.parameters}.values():
        if parameter.name in varied:
            continue
        fixed_at = fixed.get(parameter.name, parameter.default)
        owners = [{}] if parameter.per == "merge" else list(given.values())
        for owner in owners:
            given_value = owner.get(parameter.name, shared.get(parameter.name, parameter.default))
            if given_value != fixed_at:
                raise InvalidInput(f"the recipe's {parameter.name} is {given_value}, this space's is {fixed_at}")


def _variant(gene: Gene, chosen: Sequence[Method], document: Mapping[str, Any]) -> float:
    found = document.get("evomerge", {}).get("variants", {}).get(gene.name)
    if found is None:
        found = next(variant.options[0] for method in chosen if (variant := method.variant(gene.name)) is not None)
    return gene.scale.coordinate(gene.scale.check(found, gene.name))  # type: ignore[arg-type]


def _absent(gene: Gene) -> list[Option | None]:
    """Return what stands for the values of a model that does not take part."""
    return [None] * gene.division.size


def _columns(
    space: "MergeSpace",
    gene: Gene,
    shared: _Parameters,
    given: Mapping[str, _Parameters],
    chosen: Sequence[Method],
    used: Sequence[bool],
) -> list[list[Option] | None]:
    """Return the values of each column of a gene; None for a model that does not take part."""
    default = next(p.default for method in chosen if (p := method.parameter(gene.name)) is not None)

    def read(own: _Parameters) -> list[Option]:
        setting = own.get(gene.name, shared.get(gene.name, default))
        if setting is None:
            raise InvalidInput(f"the recipe does not set {gene.name}")
        return gene.read(setting, used)

    if not gene.models:
        return [read({})]
    owners = [given.get(space.models[i]) for i in gene.models]
    columns = [None if own is None else read(own) for own in owners]
    if not gene.shared_by_models:
        return columns
    found = [column for column in columns if column is not None]
    if any(column != found[0] for column in found):
        raise InvalidInput(f"the recipe's {gene.name} differs from model to model, this space's does not")
    return [found[0] if found else None]


def _check_total(gene: Gene, columns: Sequence[list[Option] | None], used: Sequence[bool]) -> None:
    found = [column for column in columns if column is not None]
    if gene.total is None or not found:
        return
    assert isinstance(gene.scale, Grid)
    width = gene.division.knots or 1
    for position, values in enumerate(zip(*found, strict=True)):
        if not used or used[position // width]:
            gene.total.check([float(value) for value in values], gene.scale, gene.name)
