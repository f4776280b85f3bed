"""Spaces of whole-model merges: the values of a method's parameters vary, and the method itself may."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge import methods
from evomerge.errors import InvalidFile, InvalidInput, Problem, did_you_mean
from evomerge.methods import Method, Parameter
from evomerge.recipe import check_document
from evomerge.records import Domain, Level, ParentSummary, Point
from evomerge.space._genes import Gene, groups_of
from evomerge.space._levels import level_of
from evomerge.space._protocol import MAX_COUNT, SpaceKind
from evomerge.space._schema import GeneEntry, SpaceEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSpace:
    """Points are gene values in the unit cube, in the order of `genes`; with several methods, the method is a choice.

    Attributes:
        method_names: the methods; with more than one, a category of the points.
        base: the base model's name, as the user wrote it, or None.
        models: the other models' names.
        genes: what varies.
        parameters: fixed parameters, as in a recipe.
        dtype: of every candidate, or None: as the parents'.
        extension: fixed `evomerge:` block of every recipe.
        description: the plain data that the space was built from.
        levels: what a coarse-to-fine search varies, one after the other; empty = everything at once.
    """

    method_names: tuple[str, ...]
    base: str | None
    models: tuple[str, ...]
    genes: tuple[Gene, ...]
    parameters: Mapping[str, Any]
    dtype: str | None
    extension: Mapping[str, Any]
    description: Mapping[str, Any]
    levels: tuple[Level, ...] = ()

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""
        return Domain(
            reals=sum(gene.size for gene in self.genes),
            categories=(len(self.method_names),) if len(self.method_names) > 1 else (),
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        labels = []
        for gene in self.genes:
            owners = [self.models[i] for i in gene.models[: gene.columns]] if not gene.shared_by_models else [""]
            for owner in owners or [""]:
                labels += [" ".join(word for word in (gene.name, owner, group.label) if word) for group in gene.groups]
        return (*labels, *(["method"] if len(self.method_names) > 1 else []))

    @property
    def start(self) -> Point:
        """The point that the space's own start values describe."""
        reals = [gene.coordinate(gene.start) for gene in self.genes for _ in range(gene.size)]
        return Point(reals=tuple(reals), categories=(0,) * (len(self.method_names) > 1))

    @property
    def recipe_count(self) -> int | None:
        """Number of distinct recipes, up to MAX_COUNT: the grid values of the genes that each method knows."""
        total = 0
        for name in self.method_names:
            known = [parameter.name for parameter in methods.get(name).parameters]
            total += math.prod(gene.levels**gene.size for gene in self.genes if gene.name in known)
        return total if total <= MAX_COUNT else None

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point; values snap to the genes' grids.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        method = methods.get(self.method_names[point.categories[0]] if point.categories else self.method_names[0])
        known = [parameter.name for parameter in method.parameters]
        shared: dict[str, Any] = {
            name: value
            for name, value in self.parameters.items()
            if name in known or name in methods.MERGEKIT_WORDS  # without effect; a note of the recipe says so
        }
        own: list[dict[str, Any]] = [{} for _ in self.models]
        position = 0
        for gene in self.genes:
            values = [gene.value(u) for u in point.reals[position : position + gene.size]]
            position += gene.size
            if gene.name not in known:
                continue
            columns = _columns(values, gene)
            if not gene.models:
                shared[gene.name] = gene.setting(columns[0])
            else:
                for index, model in enumerate(gene.models):
                    own[model][gene.name] = gene.setting(columns[0 if gene.shared_by_models else index])
        return self._document(method, shared, own)

    def _document(self, method: methods.Method, shared: dict[str, Any], own: list[dict[str, Any]]) -> dict[str, Any]:
        entries = [
            {"model": model, **({"parameters": parameters} if parameters else {})}
            for model, parameters in zip(self.models, own, strict=True)
        ]
        base = {"base_model": self.base} if self.base else {}
        return {
            "merge_method": method.name,
            **base,
            "models": entries,
            **({"parameters": shared} if shared else {}),
            **({"dtype": self.dtype} if self.dtype else {}),
            **({"evomerge": dict(self.extension)} if self.extension else {}),
        }

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a recipe that the space contains: `decode(encode(d)) == d` for every decoded d.

        Raises:
            InvalidInput: the recipe's method, models or values lie outside the space.
        """
        name = str(document.get("merge_method"))
        if name not in self.method_names:
            raise InvalidInput(f'method "{name}" is not in this space')
        method = methods.get(name)
        given = {str(entry["model"]): entry.get("parameters", {}) for entry in document.get("models", [])}
        if method.base != "input":
            if document.get("base_model") != self.base:
                raise InvalidInput("the recipe's base_model is not that of this space")
            given.pop(str(self.base), None)  # listed among the models or not, it is the base
        if set(given) != set(self.models):
            raise InvalidInput("the recipe's models are not those of this space")
        self._check_fixed(method, document.get("parameters", {}), given)
        known = [parameter.name for parameter in method.parameters]
        reals: list[float] = []
        for gene in self.genes:
            if gene.name not in known:
                reals += [gene.coordinate(gene.start)] * gene.size
                continue
            owners = [given[self.models[i]] for i in gene.models[: gene.columns]] or [document.get("parameters", {})]
            for owner in owners:
                setting = owner.get(gene.name, document.get("parameters", {}).get(gene.name))
                if setting is None:
                    raise InvalidInput(f"the recipe does not set {gene.name}")
                reals += [gene.coordinate(value) for value in gene.read(setting)]
        return Point(
            reals=tuple(reals), categories=(self.method_names.index(name),) if len(self.method_names) > 1 else ()
        )

    def _check_fixed(
        self, method: methods.Method, shared: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Raise InvalidInput if a recipe gives a parameter that does not vary another value than this space does."""
        varied = {gene.name for gene in self.genes}
        for parameter in method.parameters:
            if parameter.name in varied:
                continue
            fixed_at = self.parameters.get(parameter.name, parameter.default)
            owners = [{}] if parameter.per == "merge" else list(given.values())
            for owner in owners:
                given_value = owner.get(parameter.name, shared.get(parameter.name, parameter.default))
                if given_value != fixed_at:
                    raise InvalidInput(f"the recipe's {parameter.name} is {given_value}, this space's is {fixed_at}")


def _columns(values: Sequence[float], gene: Gene) -> list[Sequence[float]]:
    width = len(gene.groups)
    return [values[i * width : (i + 1) * width] for i in range(gene.columns)]


def build(data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> MergeSpace:
    """Check a space's plain data against the parents and return the space (see `BuildSpace`)."""
    entry, problems = check_document(SpaceEntry, data, where)
    if entry is None:
        raise InvalidFile(problems)
    names = [entry.method] if isinstance(entry.method, str) else list(entry.method)
    unknown = []
    for name in names:
        try:
            methods.get(name)
        except InvalidInput as error:
            unknown.append(Problem(f"{where}: method", str(error)))
    problems += unknown
    if not unknown:
        problems += _problems(entry, names, where, base, models)
    if problems:
        raise InvalidFile(problems)
    return _built(entry, names, base, models, data)


def _problems(
    entry: SpaceEntry, names: Sequence[str], where: str, base: ParentSummary | None, models: Sequence[ParentSummary]
) -> Iterator[Problem]:
    known = {p.name: p for name in names for p in methods.get(name).parameters}
    for name in names:
        yield from _method_problems(methods.get(name), where, base, len(models))
    for name in entry.parameters:
        if name not in known and name not in methods.MERGEKIT_WORDS:
            hint = did_you_mean(name, known)
            yield Problem(f"{where}: parameters.{name}", f"{' and '.join(names)} have no such parameter.{hint}")
    if not entry.genes:
        yield Problem(f"{where}: genes", "is missing; a space varies at least one parameter")
    yield from _level_problems(entry, len(names), where)
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


def _level_problems(entry: SpaceEntry, method_count: int, where: str) -> Iterator[Problem]:
    if entry.levels and method_count > 1:
        yield Problem(f"{where}: levels", "cannot be used with several methods; keep one method, or leave levels out")
    known = {axis for gene in entry.genes.values() for axis in gene.per}
    for i, axes in enumerate(entry.levels):
        for axis in axes:
            needed = "layer" if axis.startswith("curve:") else axis
            if needed not in known:
                yield Problem(
                    f"{where}: levels.{i}", f"divides by {axis.partition(':')[0]}, but no gene has {needed} in its per"
                )


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
    if parameter.kind != "number":
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


def _built(
    entry: SpaceEntry,
    names: Sequence[str],
    base: ParentSummary | None,
    models: Sequence[ParentSummary],
    data: Mapping[str, Any],
) -> MergeSpace:
    known = {p.name: p for name in names for p in methods.get(name).parameters}
    if base is None and any(methods.get(name).base == "required" for name in names):
        base, models = models[0], models[1:]
    genes = tuple(_gene(known[name], gene, models) for name, gene in entry.genes.items())
    pers = [gene.per for gene in entry.genes.values()]
    return MergeSpace(
        method_names=tuple(names),
        base=base.name if base else None,
        models=tuple(model.name for model in models),
        genes=genes,
        parameters=entry.parameters,
        dtype=entry.dtype,
        extension=entry.evomerge,
        description=data,
        levels=tuple(level_of(axes, genes, pers, models[0].num_layers) for axes in entry.levels),
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
    """Return where a search begins when the space gives no start: equal shares for weights, else the middle."""
    start = 1.0 / models if parameter.start == "equal" else (low + high) / 2
    return min(high, max(low, start))


MERGE = SpaceKind(
    name="merge",
    description="whole-model merges: genes are a method's parameters for each model, layer, module or knot",
    build=build,
)
