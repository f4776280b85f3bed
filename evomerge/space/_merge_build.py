"""Builds a space of merges from its YAML."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge import methods
from evomerge.errors import InvalidFile
from evomerge.methods import Parameter, Variant
from evomerge.recipe import check_document
from evomerge.records import ParentSummary, TensorPlace
from evomerge.space._merge_checks import least_of, problems_of
from evomerge.space._protocol import SpaceKind
from evomerge.space._schema import GeneEntry, PartEntry, SelectionEntry, SpaceEntry
from evomerge.space._selection import Selection
from evomerge.space.genes import (
    Division,
    Gene,
    Grid,
    Option,
    Options,
    Total,
    divided,
    level_of,
    members_of,
    of_part,
    places_of,
)
from evomerge.space.merge import MergeSpace


def build(data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> MergeSpace:
    """Check a space's plain data against the parents and return the space (see `BuildSpace`)."""
    entry, problems = check_document(SpaceEntry, data, where)
    if entry is None:
        raise InvalidFile(problems)
    reported = {problem.where for problem in problems}  # what the schema dropped must not be called missing
    problems += [problem for problem in problems_of(entry, where, base, models) if problem.where not in reported]
    if problems:
        raise InvalidFile(problems)
    return _built(entry, base, models, data)


def _built(
    entry: SpaceEntry, base: ParentSummary | None, models: Sequence[ParentSummary], data: Mapping[str, Any]
) -> MergeSpace:
    chosen = [methods.get(name) for name in entry.method.names]
    parents = [base, *models] if base else list(models)
    if base is None and any(method.base == "required" for method in chosen):
        base, models = models[0], models[1:]
    places = places_of(parents)
    method_division, method_members = _division(entry.method.axes, parents, places)
    sections = entry.modules or {"": PartEntry(genes=entry.genes)}
    known: dict[str, Parameter | Variant] = {}
    for method in chosen:
        known |= {variant.name: variant for variant in method.variants}
        known |= {parameter.name: parameter for parameter in method.parameters}
    selection = _selection(entry.parents, entry, base, len(models))
    typical = len(models) if selection is None else selection.most
    genes = tuple(
        _gene(known[name], gene, parents, len(models), typical, part, of_part(places, part))
        for part, section in sections.items()
        for name, gene in section.genes.items()
    )
    return MergeSpace(
        method_names=entry.method.names,
        method_groups=method_division.groups if entry.method.axes else (),
        method_members=method_members if entry.method.axes else (),
        base=base.name if base else None,
        models=tuple(model.name for model in models),
        genes=genes,
        touches=_touches(genes, method_members) if entry.method.axes else (),
        selection=selection,
        parameters=entry.parameters,
        parts={part: section.parameters for part, section in entry.modules.items()},
        all_parts={place.part for place in places} == set(entry.modules),
        dtype=entry.dtype,
        extension=entry.evomerge,
        description=data,
        levels=tuple(level_of(axes, genes, models[0].num_layers) for axes in entry.levels),
    )


def _division(
    axes: Any, parents: Sequence[ParentSummary], places: Sequence[TensorPlace]
) -> tuple[Division, tuple[tuple[TensorPlace, ...], ...]]:
    """Return what axes make of a model, and the tensors of each group."""
    division = divided(axes or (), parents, places)
    return division, tuple(tuple(members) for members in members_of(division.groups, places))


def _touches(
    genes: Sequence[Gene], method_members: Sequence[Sequence[TensorPlace]]
) -> tuple[tuple[frozenset[int], ...], ...]:
    """Return, for each gene and group of tensors, the method groups that it overlaps."""
    owner = {place.name: number for number, members in enumerate(method_members) for place in members}
    return tuple(tuple(frozenset(owner[place.name] for place in members) for members in gene.members) for gene in genes)


def _selection(
    entry: SelectionEntry | None, space: SpaceEntry, base: ParentSummary | None, count: int
) -> Selection | None:
    if entry is None:
        return None
    least = least_of(entry, [methods.get(name) for name in space.method.names], base)
    most = count if entry.most is None else min(count, entry.most)
    return Selection(count=count, least=least, most=most, real=entry.indicator == "real")


def _gene(
    known: Parameter | Variant,
    entry: GeneEntry,
    parents: Sequence[ParentSummary],
    count: int,
    typical: int,
    part: str,
    places: Sequence[TensorPlace],
) -> Gene:
    """Return a gene.

    Args:
        known: what it varies.
        entry: how.
        parents: all of them; the first one has the result's tensor names.
        count: number of models, without the base.
        typical: number of models that take part, at most.
        part: of the model.
        places: the tensors of the part.
    """
    if isinstance(known, Variant):
        options = tuple(entry.values or known.options)
        start = options[0] if entry.start is None else entry.start
        return Gene(name=known.name, scale=Options(values=options, ordered=False), start=start, variant=True)
    division, members = _division(entry.per, parents, places)
    scale = _scale(known, entry)
    total = None
    if entry.total is not None:
        low, high = entry.total
        total = Total(low=-math.inf if low is None else low, high=math.inf if high is None else high)
    return Gene(
        name=known.name,
        scale=scale,
        start=_start(known, scale, typical) if entry.start is None else entry.start,
        models=() if known.per == "merge" else tuple(range(count)),
        shared_by_models=not any(axis.kind == "model" for axis in entry.per),
        division=division,
        members=members,
        part=part,
        total=total,
    )


def _scale(parameter: Parameter, entry: GeneEntry) -> Grid | Options:
    if parameter.kind == "flag":
        return Options(values=(False, True), ordered=False)
    if entry.values is not None:
        whole = parameter.kind == "integer"
        return Options(values=tuple(int(value) if whole else float(value) for value in entry.values), ordered=True)
    low, high = entry.range or parameter.gene or (0.0, 1.0)
    if parameter.kind == "integer":
        return Options(values=tuple(range(int(low), int(high) + 1)), ordered=True)
    return Grid(low=low, high=high, log=entry.scale == "log", density=parameter.name == "density")


def _start(parameter: Parameter, scale: Grid | Options, models: int) -> Option:
    """Return where a search begins when the space gives no start: equal shares for weights, else the middle.

    Args:
        parameter: that varies.
        scale: its values.
        models: that take part.
    """
    if parameter.kind == "flag":
        return bool(parameter.default)
    if isinstance(scale, Options):
        if parameter.default in scale.values:
            return scale.values[scale.values.index(parameter.default)]
        return scale.values[(len(scale.values) - 1) // 2]
    middle = scale.straight(0.5) if scale.log else (scale.low + scale.high) / 2
    start = 1.0 / models if parameter.start == "equal" else middle
    return min(scale.high, max(scale.low, start))


MERGE = SpaceKind(
    name="merge",
    description="whole-model merges: genes are a method's parameters for each model, layer, module, filter or knot",
    build=build,
)
