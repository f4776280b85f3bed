"""From a space's YAML and summaries of the parents to a space object, with every problem at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge import methods
from evomerge.errors import (
    InvalidFile,
    InvalidInput,
    Problem,
    did_you_mean,
)
from evomerge.methods import Method, Parameter
from evomerge.recipe import check_document, read_yaml
from evomerge.records import ParentSummary
from evomerge.space._genes import Gene, Group, groups_of
from evomerge.space._merge_space import MergeSpace
from evomerge.space._schema import GeneEntry, SpaceEntry
from evomerge.space._stack_space import GENES, StackSpace

Space = MergeSpace | StackSpace


def shipped_folder() -> Path:
    """Return the folder of the spaces that come with evomerge."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_search_spaces"
    return installed if installed.is_dir() else package.parent / "search_spaces"


def shipped_spaces() -> dict[str, Path]:
    """Return name -> file of the spaces that come with evomerge."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def read_space(value: Any, folder: Path, where: str) -> tuple[Any, str]:
    """Return a space as plain data and how to name it in messages: a shipped name, a path, or an inline mapping.

    Raises:
        InvalidInput: neither a shipped space nor a readable file.
    """
    if isinstance(value, Mapping):
        return dict(value), f"{where}: space"
    shipped = shipped_spaces()
    if value in shipped:
        return read_yaml(shipped[value]), f"space {value}"
    path = folder / str(value)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return read_yaml(path), str(path)
    known = ", ".join(shipped)
    raise InvalidInput(
        f'{where}: space: "{value}" is no shipped space ({known}) and no file.{did_you_mean(value, shipped)}'
    )


def build_space(data: Any, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> Space:
    """Check a space against the parents and return it.

    Raises:
        InvalidFile: every problem at once.
    """
    entry, problems = check_document(SpaceEntry, data, where)
    if entry is None:
        raise InvalidFile(problems)
    names = [entry.method] if isinstance(entry.method, str) else list(entry.method)
    unknown = [name for name in names if name not in methods.METHODS]
    for name in unknown:
        hint = did_you_mean(name, methods.METHODS)
        problems.append(
            Problem(f"{where}: method", f'unknown method "{name}"; known are {", ".join(methods.METHODS)}.{hint}')
        )
    if unknown:
        raise InvalidFile(problems)
    stack = names == ["passthrough"]
    problems += _stack_problems(entry, where) if stack else _merge_problems(entry, names, where, base, models)
    if problems:
        raise InvalidFile(problems)
    return _stack(entry, base, models) if stack else _merge(entry, names, base, models)


def _merge_problems(
    entry: SpaceEntry, names: Sequence[str], where: str, base: ParentSummary | None, models: Sequence[ParentSummary]
) -> Iterator[Problem]:
    known = {p.name: p for name in names for p in methods.get(name).parameters}
    for name in names:
        yield from _method_problems(methods.get(name), where, base, len(models))
    for name in entry.parameters:
        if name not in known:
            hint = did_you_mean(name, known)
            yield Problem(f"{where}: parameters.{name}", f"{' and '.join(names)} have no such parameter.{hint}")
    if not entry.genes:
        yield Problem(f"{where}: genes", "is missing; a space varies at least one parameter")
    for name, gene in entry.genes.items():
        place = f"{where}: genes.{name}"
        if name not in known:
            listed = ", ".join(known)
            yield Problem(
                place, f"{' and '.join(names)} has no parameter {name}; known: {listed}.{did_you_mean(name, known)}"
            )
            continue
        yield from _gene_problems(known[name], gene, place)
    given = {*entry.genes, *entry.parameters}
    for parameter in known.values():
        if parameter.default is None and parameter.name not in given:
            yield Problem(f"{where}: genes", f"{parameter.name} has neither a gene nor a fixed value ({parameter.doc})")


def _method_problems(method: Method, where: str, base: ParentSummary | None, count: int) -> Iterator[Problem]:
    low, high = method.inputs
    if method.base == "required" and base is None and not (high == 1 and count == 2):
        yield Problem(f"{where}: method", f"{method.name} needs parents.base, the model that the others share")
    elif high == 1 and count != (1 if base else 2):
        yield Problem(
            f"{where}: method", f"{method.name} merges two models, found {count + (base is not None)} parents"
        )
    elif count < low:
        yield Problem(f"{where}: method", f"{method.name} needs at least {low} models, found {count}")


def _gene_problems(parameter: Parameter, gene: GeneEntry, place: str) -> Iterator[Problem]:
    if parameter.kind != "number" or not parameter.effect:
        yield Problem(place, f"{parameter.name} cannot be searched ({parameter.doc}); put it under parameters")
        return
    if parameter.per == "merge" and "model" in gene.per:
        yield Problem(f"{place}.per", f"{parameter.name} is one value for the whole merge; leave out model")
    span = gene.range or parameter.gene
    if span is None:
        yield Problem(f"{place}.range", f"is missing; {parameter.name} has no range of its own")
        return
    low, high = span
    if low >= high:
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
    elif gene.start is not None and not low <= gene.start <= high:
        yield Problem(f"{place}.start", f"found {gene.start:g}, expected a value inside [{low:g}, {high:g}]")


def _merge(
    entry: SpaceEntry, names: Sequence[str], base: ParentSummary | None, models: Sequence[ParentSummary]
) -> MergeSpace:
    known = {p.name: p for name in names for p in methods.get(name).parameters}
    if base is None and any(methods.get(name).base == "required" for name in names):
        base, models = models[0], models[1:]
    genes = tuple(_gene(known[name], gene, models) for name, gene in entry.genes.items())
    return MergeSpace(
        names=tuple(names),
        base=base.name if base else None,
        models=tuple(model.name for model in models),
        genes=genes,
        parameters=entry.parameters,
        dtype=entry.dtype,
        extension=entry.evomerge,
    )


def _gene(parameter: Parameter, entry: GeneEntry, models: Sequence[ParentSummary]) -> Gene:
    low, high = entry.range or parameter.gene or (0.0, 1.0)
    groups, knots = groups_of(entry.per, models[0])
    start = entry.start if entry.start is not None else _start(parameter, low, high, len(models))
    return Gene(
        name=parameter.name,
        low=low,
        high=high,
        start=start,
        models=() if parameter.per == "merge" else tuple(range(len(models))),
        shared_by_models="model" not in entry.per,
        groups=groups,
        knots=knots,
    )


def _start(parameter: Parameter, low: float, high: float, models: int) -> float:
    """Return where a search begins when the space does not say: equal shares for weights, else the middle."""
    start = 1.0 / models if parameter.name == "weight" else (low + high) / 2
    return min(high, max(low, start))


def _stack_problems(entry: SpaceEntry, where: str) -> Iterator[Problem]:
    if not entry.genes:
        yield Problem(f"{where}: genes", f"is missing; a layer stack varies {', '.join(GENES)}")
    for name in entry.parameters:
        yield Problem(f"{where}: parameters.{name}", "a layer stack has no fixed parameters")
    for name, gene in entry.genes.items():
        place = f"{where}: genes.{name}"
        if name not in GENES:
            yield Problem(
                place, f"a layer stack has no such gene; known: {', '.join(GENES)}.{did_you_mean(name, GENES)}"
            )
        elif name != "gain" and gene.per != ("layer",):
            yield Problem(f"{place}.per", f"found {list(gene.per)}, expected layer")
        elif name == "gain" and gene.per not in ((), ("layer",)):
            yield Problem(f"{place}.per", f"found {list(gene.per)}, expected layer or nothing")
        elif name == "gain" and gene.range is not None and not 0 < gene.range[0] < gene.range[1]:
            yield Problem(f"{place}.range", f"found {list(gene.range)}, expected 0 < low < high")
        elif name == "repeat" and gene.range is not None and not _whole(gene.range):
            yield Problem(f"{place}.range", f"found {list(gene.range)}, expected [0, most] in whole numbers")
        elif name == "source" and (gene.range is not None or gene.start is not None):
            yield Problem(place, "a choice of models has neither range nor start")


def _whole(span: tuple[float, float]) -> bool:
    return span[0] == 0 and span[1] == int(span[1]) and 1 <= span[1] <= 8


def _stack(entry: SpaceEntry, base: ParentSummary | None, models: Sequence[ParentSummary]) -> StackSpace:
    parents = [base, *models] if base else list(models)
    repeat, gain = entry.genes.get("repeat"), entry.genes.get("gain")
    layers = parents[0].num_layers
    groups = tuple(Group(f"layer {layer}", "") for layer in range(layers)) if gain and gain.per else (Group("all", ""),)
    low, high = (gain.range if gain else None) or (0.5, 1.5)
    return StackSpace(
        donor=parents[0].name,
        models=tuple(parent.name for parent in parents),
        num_layers=layers,
        vary_source="source" in entry.genes,
        vary_repeat="repeat" in entry.genes,
        max_repeat=int(repeat.range[1] if repeat.range else 2) if repeat else 1,
        gain=None
        if gain is None
        else Gene(
            name="gain",
            low=low,
            high=high,
            start=min(high, max(low, gain.start if gain.start is not None else 1.0)),
            models=(),
            shared_by_models=True,
            groups=groups,
        ),
        dtype=entry.dtype,
        extension=entry.evomerge,
    )
