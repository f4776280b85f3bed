"""Everything wrong with a space of merges, a sentence each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from evomerge import methods
from evomerge.errors import InvalidInput, Problem, did_you_mean
from evomerge.methods import Method, Parameter, Variant
from evomerge.recipe import TEXT_MODULE
from evomerge.records import ParentSummary, TensorPlace
from evomerge.space._schema import LARGEST, GeneEntry, PartEntry, SelectionEntry, SpaceEntry
from evomerge.space.genes import GeneAxis, divided, of_part, places_of

MAX_INTEGERS = 10_000  # values of a whole number
MAX_FILTERS = 3000  # of one parameter in a recipe: every tensor of every candidate is held against them
_SINGLE = ("total", "scale", "range", "per")  # keys that choices do not have


def problems_of(
    entry: SpaceEntry, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]
) -> Iterator[Problem]:
    """Yield the problems of a space that fits the schema.

    Args:
        entry: the space.
        where: its name, for messages.
        base: summary of the base, or None.
        models: summaries of the other models.
    """
    names, chosen = entry.method.names, []
    for name in names:
        try:
            chosen.append(methods.get(name))
        except InvalidInput as error:
            yield Problem(f"{where}: method", str(error))
    if len(chosen) < len(names):
        return
    parents = [base, *models] if base else list(models)
    places = places_of(parents)
    for method in chosen:
        yield from _method_problems(method, entry.parents, where, base, len(models))
    if entry.method.axes is not None:
        yield from _method_axis_problems(entry.method.axes, names, where, places)
    if entry.parents is not None:
        yield from _selection_problems(entry.parents, chosen, where, base, len(models))
    if entry.modules and entry.genes:
        yield Problem(f"{where}: genes", "stands beside modules; put the genes of each part under modules")
    known_parts = list(dict.fromkeys(place.part for place in places))
    for part in entry.modules:
        if part not in known_parts:
            text = f"{parents[0].name} has no part {part}; it has {', '.join(known_parts)}"
            yield Problem(f"{where}: modules.{part}", text + f".{did_you_mean(part, known_parts)}")
    sections = entry.modules or {"": PartEntry(genes=entry.genes, parameters=entry.parameters)}
    yield from _level_problems(entry, sections, chosen, where)
    if not any(section.genes for section in sections.values()) and entry.parents is None and len(names) == 1:
        yield Problem(f"{where}: genes", "is missing; a space varies at least one parameter")
    for part, section in sections.items():
        prefix = f"{where}: modules.{part}." if part else f"{where}: "
        if part in ("", *known_parts):
            parts = _Part(part, parents, of_part(places, part))
            yield from _section_problems(section, chosen, prefix, parts, len(models))
        given = {*section.genes, *section.parameters, *entry.parameters}
        for parameter in _known(chosen).values():
            if parameter.default is None and parameter.name not in given:
                text = f"{parameter.name} has neither a gene nor a fixed value ({parameter.doc})"
                yield Problem(f"{prefix}genes", text)
    if entry.modules:
        yield from _parameter_problems(entry.parameters, chosen, f"{where}: ")


class _Part(NamedTuple):
    """A part of the models.

    Attributes:
        name: of the part; "" = the whole model.
        parents: all of them; the first one has the result's tensor names.
        places: its tensors.
    """

    name: str
    parents: Sequence[ParentSummary]
    places: Sequence[TensorPlace]


def _known(chosen: Iterable[Method]) -> dict[str, Parameter]:
    return {parameter.name: parameter for method in chosen for parameter in method.parameters}


def _variants(chosen: Iterable[Method]) -> dict[str, Variant]:
    return {variant.name: variant for method in chosen for variant in method.variants}


def _method_problems(
    method: Method, selection: SelectionEntry | None, where: str, base: ParentSummary | None, count: int
) -> Iterator[Problem]:
    low, high = method.inputs
    most = count if selection is None or selection.most is None else min(count, selection.most)
    if method.base == "required" and base is None and not (high == 1 and count == 2):
        yield Problem(f"{where}: method", f"{method.name} needs parents.base, the model that the others share")
    elif high == 1 and most != (1 if base else 2):
        hint = "; or let it choose one: parents: {most: 1}" if base else ""
        yield Problem(
            f"{where}: method", f"{method.name} merges two models, found {count + (base is not None)} parents{hint}"
        )
    elif most < low:
        yield Problem(f"{where}: method", f"{method.name} needs at least {low} models, found {most}")


def _method_axis_problems(
    axes: Sequence[GeneAxis], names: Sequence[str], where: str, places: Sequence[TensorPlace]
) -> Iterator[Problem]:
    if len(names) < 2:
        yield Problem(f"{where}: method.choose", f"found {names[0]} alone, expected at least two methods")
    for axis in axes:
        if axis.kind in ("model", "curve"):
            yield Problem(f"{where}: method.per", f"found {axis.kind}, expected layer, bands, module or groups")
    yield from _filter_problems(axes, f"{where}: method.per", places)


def least_of(entry: SelectionEntry, chosen: Sequence[Method], base: ParentSummary | None) -> int:
    """Return the least number of models that take part: as the space says, else what its methods need.

    Without any model, the merge is the base, if every method's result can be that.
    """
    if entry.least is not None:
        return entry.least
    needed = max(method.inputs[0] for method in chosen)
    alone = base is not None and needed == 1 and all(method.base == "required" for method in chosen)
    return 0 if alone and all(method.inputs[1] != 1 for method in chosen) else needed


def _selection_problems(
    entry: SelectionEntry, chosen: Sequence[Method], where: str, base: ParentSummary | None, count: int
) -> Iterator[Problem]:
    least, most = least_of(entry, chosen, base), count if entry.most is None else min(count, entry.most)
    needed = least_of(SelectionEntry(), chosen, base)
    if least > most:
        text = f"found at least {least} and at most {most} of {count} models, expected least <= most"
        yield Problem(f"{where}: parents", text)
    elif least < needed:
        text = f"found {least}, but {' and '.join(method.name for method in chosen)} need at least {needed}"
        yield Problem(f"{where}: parents.least", text)
    elif least == most == count:
        yield Problem(f"{where}: parents", f"all {count} models always take part; lower least, or leave parents out")


def _level_problems(
    entry: SpaceEntry, sections: Mapping[str, PartEntry], chosen: Sequence[Method], where: str
) -> Iterator[Problem]:
    if not entry.levels:
        return
    parameters, variants = _known(chosen), _variants(chosen)
    genes = [gene for section in sections.values() for gene in section.genes.values()]
    if len(entry.method.names) > 1:
        yield Problem(f"{where}: levels", "cannot be used with several methods; keep one method, or leave levels out")
    if entry.parents is not None:
        yield Problem(f"{where}: levels", "cannot be used with parents that take part or not; leave one of them out")
    for name, gene in [pair for section in sections.values() for pair in section.genes.items()]:
        kind = parameters[name].kind if name in parameters else "variant" if name in variants else "unknown"
        if kind != "unknown" and (kind != "number" or gene.values is not None):
            yield Problem(f"{where}: levels", f"need ranges of numbers alone, and {name} is none; leave levels out")
    known = {axis.kind for gene in genes for axis in gene.per}
    for i, axes in enumerate(entry.levels):
        for axis in axes:
            needed = "layer" if axis.kind == "curve" else axis.kind
            if axis.kind == "bands":
                yield Problem(f"{where}: levels.{i}", "found bands, expected model, module, groups, curve or layer")
            elif needed not in known:
                yield Problem(f"{where}: levels.{i}", f"divides by {axis.kind}, but no gene has {needed} in its per")


def _section_problems(
    section: PartEntry, chosen: Sequence[Method], prefix: str, part: _Part, count: int
) -> Iterator[Problem]:
    """Yield the problems of the genes and fixed parameters of a part."""
    known, variants = _known(chosen), _variants(chosen)
    names = " and ".join(method.name for method in chosen)
    yield from _parameter_problems(section.parameters, chosen, prefix)
    for name, gene in section.genes.items():
        place = f"{prefix}genes.{name}"
        if name in known:
            yield from _gene_problems(known[name], gene, place, count)
            yield from _owner_problems(name, chosen, place)
        elif name in variants and not part.name:
            yield from _variant_problems(variants[name], gene, place)
        else:
            listed = [*known, *([] if part.name else variants)]
            yield Problem(
                place, f"{names} has no parameter {name}; known: {', '.join(listed)}.{did_you_mean(name, listed)}"
            )
            continue
        yield from _filter_problems(gene.per, f"{place}.per", part.places)
        yield from _count_problems(gene.per, f"{place}.per", part)
        if part.name not in ("", TEXT_MODULE) and any(axis.kind not in ("model", "groups") for axis in gene.per):
            yield Problem(
                f"{place}.per", f"{part.name} can be divided by model and groups alone; its blocks are not known"
            )


def _parameter_problems(given: Iterable[str], chosen: Sequence[Method], prefix: str) -> Iterator[Problem]:
    known, names = _known(chosen), " and ".join(method.name for method in chosen)
    for name in given:
        if name not in known and name not in methods.MERGEKIT_WORDS:
            yield Problem(f"{prefix}parameters.{name}", f"{names} have no such parameter.{did_you_mean(name, known)}")


def _owner_problems(name: str, chosen: Sequence[Method], place: str) -> Iterator[Problem]:
    """Yield a problem if methods mean different things by a parameter."""
    owners = [(method.name, found) for method in chosen if (found := method.parameter(name)) is not None]
    for owner, found in owners[1:]:
        if (found.per == "merge", found.kind) != (owners[0][1].per == "merge", owners[0][1].kind):
            text = f"{name} is another thing in {owner} than in {owners[0][0]}; leave one of the methods out"
            yield Problem(place, text)


def _filter_problems(axes: Iterable[GeneAxis], place: str, places: Sequence[TensorPlace]) -> Iterator[Problem]:
    """Yield groups of filters that find no tensor, or none that an earlier group has left."""
    words = sorted({word for tensor in places for word in tensor.name.split(".") if not word.isdigit()})
    for axis in axes:
        taken: set[str] = set()
        for name, filters in axis.filters:
            found = {tensor.name for tensor in places if any(part in tensor.name for part in filters)}
            if found and not found - taken:
                yield Problem(place, f"the group {name} has no tensors of its own: earlier groups have all of them")
            for part in filters:
                if not any(part in tensor.name for tensor in places):
                    yield Problem(place, f'no tensor has "{part}" in its name.{did_you_mean(part.strip("."), words)}')
            taken |= found


def _count_problems(axes: Sequence[GeneAxis], place: str, part: _Part) -> Iterator[Problem]:
    """Yield a problem if so many filters would be needed that reading a recipe would take minutes."""
    count = sum(len(group.patterns) for group in divided(axes, part.parents, part.places).groups)
    if count > MAX_FILTERS:
        text = f"needs {count} filters in each recipe, at most {MAX_FILTERS} are allowed; use curve instead of layer or"
        yield Problem(place, text + " bands, or groups that names inside a block begin with, such as mlp.")


def _variant_problems(variant: Variant, gene: GeneEntry, place: str) -> Iterator[Problem]:
    for key in _SINGLE:
        if key in gene.model_fields_set:
            yield Problem(f"{place}.{key}", f"{variant.name} is one choice for the whole merge; it has values alone")
    options = variant.options if gene.values is None else gene.values
    for option in options:
        if option not in variant.options:
            listed = ", ".join(variant.options)
            hint = did_you_mean(str(option), variant.options)
            yield Problem(f"{place}.values", f"found {option}, expected some of {listed}.{hint}")
    yield from _list_problems(options, gene, place)


def _list_problems(options: Sequence[object], gene: GeneEntry, place: str) -> Iterator[Problem]:
    if len(set(options)) < 2 or len(set(options)) < len(options):
        yield Problem(f"{place}.values", f"found {list(options)}, expected at least two values, each once")
    elif gene.start is not None and gene.start not in options:
        yield Problem(f"{place}.start", f"found {gene.start}, expected one of {', '.join(map(str, options))}")


def _gene_problems(parameter: Parameter, gene: GeneEntry, place: str, count: int) -> Iterator[Problem]:
    if parameter.per == "merge" and any(axis.kind == "model" for axis in gene.per):
        yield Problem(f"{place}.per", f"{parameter.name} is one value for the whole merge; leave out model")
        return
    if gene.values is not None and gene.range is not None:
        yield Problem(f"{place}.values", "stands beside range; keep one")
        return
    if parameter.kind == "flag":
        for key in ("range", "values", "scale", "total"):
            if key in gene.model_fields_set:
                yield Problem(f"{place}.{key}", f"{parameter.name} is true or false; leave out {key}")
        if gene.start is not None and not isinstance(gene.start, bool):
            yield Problem(f"{place}.start", f"found {gene.start}, expected true or false")
        yield from _no_curve(gene, place, "of true and false")
    elif gene.values is not None:
        yield from _values_problems(parameter, gene, place)
    else:
        yield from _range_problems(parameter, gene, place, count)


def _no_curve(gene: GeneEntry, place: str, what: str) -> Iterator[Problem]:
    if any(axis.kind == "curve" for axis in gene.per):
        yield Problem(f"{place}.per", f"there is no curve {what}; use layer or bands")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _values_problems(parameter: Parameter, gene: GeneEntry, place: str) -> Iterator[Problem]:
    assert gene.values is not None
    for key in ("scale", "total"):
        if key in gene.model_fields_set:
            yield Problem(f"{place}.{key}", "says nothing where values are listed; leave it out, or give a range")
    yield from _no_curve(gene, place, "of listed values")
    wrong = [value for value in gene.values if not _is_number(value)]
    if wrong:
        yield Problem(f"{place}.values", f"found {wrong[0]}, expected numbers")
        return
    if sorted(gene.values) != gene.values:
        yield Problem(f"{place}.values", f"found {gene.values}, expected ascending numbers")
    for value in gene.values:
        if not parameter.low <= value <= parameter.high or (parameter.positive and value <= 0):
            above = f"above {max(0.0, parameter.low):g}" if parameter.positive else f"from {parameter.low:g}"
            yield Problem(f"{place}.values", f"found {value:g}, expected values {above} to {parameter.high:g}")
        elif parameter.kind == "integer" and value != int(value):
            yield Problem(f"{place}.values", f"found {value:g}, expected whole numbers")
    yield from _list_problems(gene.values, gene, place)


def _range_problems(parameter: Parameter, gene: GeneEntry, place: str, count: int) -> Iterator[Problem]:
    span = gene.range or parameter.gene
    if span is None:
        yield Problem(f"{place}.range", f"is missing; {parameter.name} has no range of its own")
        return
    low, high = span
    whole = parameter.kind == "integer"
    if not (_is_number(low) and _is_number(high)) or low >= high:
        yield Problem(f"{place}.range", f"found [{low:g}, {high:g}], expected [low, high] with low < high")
    elif parameter.positive and low <= 0:
        yield Problem(
            f"{place}.range",
            f"starts at {low:g}, expected a value above 0 (0.1 is usual): at 0 a model drops out whatever its weight",
        )
    elif low < parameter.low or high > parameter.high:
        yield Problem(
            f"{place}.range", f"found [{low:g}, {high:g}], expected values from {parameter.low:g} to {parameter.high:g}"
        )
    elif gene.start is not None and not _is_number(gene.start):
        yield Problem(f"{place}.start", f"found {gene.start}, expected a number")
    elif gene.start is not None and not low <= gene.start <= high:
        yield Problem(f"{place}.start", f"found {gene.start:g}, expected a value inside [{low:g}, {high:g}]")
    elif whole and not (low == int(low) and high == int(high) and high - low < MAX_INTEGERS):
        yield Problem(
            f"{place}.range", f"found [{low:g}, {high:g}], expected whole numbers, fewer than {MAX_INTEGERS} of them"
        )
    elif whole and gene.start is not None and gene.start != int(gene.start):
        yield Problem(f"{place}.start", f"found {gene.start:g}, expected a whole number")
    elif whole and "scale" in gene.model_fields_set:
        yield Problem(f"{place}.scale", "a whole number has no scale; list its values: values: [1, 10, 100]")
    elif gene.scale == "log" and low <= 0:
        yield Problem(f"{place}.range", f"starts at {low:g}, expected a value above 0 for scale: log")
    if whole:
        yield from _no_curve(gene, place, "of whole numbers")
    if gene.total is not None:
        yield from _total_problems(gene, low, high, count, place)


def _total_problems(gene: GeneEntry, low: float, high: float, count: int, place: str) -> Iterator[Problem]:
    assert gene.total is not None
    least, most = (count * low if gene.total[0] is None else gene.total[0]), gene.total[1]
    most = count * high if most is None else most
    if not any(axis.kind == "model" for axis in gene.per):
        yield Problem(f"{place}.total", "adds up over the models, but per has no model; add it, or leave total out")
    elif not least <= most:
        yield Problem(f"{place}.total", f"found [{least:g}, {most:g}], expected [least, greatest]")
    elif most < count * low or least > count * high:
        yield Problem(
            f"{place}.total",
            f"found [{least:g}, {most:g}], but the totals of {count} models go from {count * low:g} to "
            f"{count * high:g}",
        )
