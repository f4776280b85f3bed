"""Spaces of whole-model merges: a method's parameters vary, the method itself may, and so may who takes part."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evomerge import methods
from evomerge.recipe import Setting
from evomerge.records import Domain, Level, Point, TensorPlace
from evomerge.space._averages import averaged_point
from evomerge.space._merge_reader import read_point
from evomerge.space._protocol import MAX_COUNT
from evomerge.space._selection import OFF, ON, Selection
from evomerge.space.genes import Gene, Grid, Option, Options, TensorGroup

WEIGHT = "weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSpace:
    """Merges of whole models.

    A point holds as reals the coordinates of the genes with a range, in the order of `genes`, then real indicators of
    the parents; as integers those of ordered options; as categories the methods, other options, then indicators.

    Attributes:
        method_names: the methods; with more than one, categories of the points.
        method_groups: the tensors that have a method of their own; empty = all have one.
        method_members: the tensors of each group.
        base: the base model's name, as the user wrote it, or None.
        models: the other models' names.
        genes: what varies.
        touches: for each gene and group of tensors, which of the method groups it overlaps.
        selection: which models take part, or None: all.
        parameters: fixed parameters, as in a recipe.
        parts: part of the model -> its fixed parameters; empty = the model is merged as a whole.
        all_parts: whether `parts` are all that the model has.
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
    method_groups: tuple[TensorGroup, ...] = ()
    method_members: tuple[tuple[TensorPlace, ...], ...] = field(default=(), repr=False)
    touches: tuple[tuple[frozenset[int], ...], ...] = field(default=(), repr=False)
    selection: Selection | None = None
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    all_parts: bool = False

    # -- points

    @property
    def method_choices(self) -> int:
        """How many choices of a method there are."""
        return 0 if len(self.method_names) == 1 else max(1, len(self.method_groups))

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""
        reals, categories = 0, [len(self.method_names)] * self.method_choices
        integers: list[int] = []
        for gene in self.genes:
            if isinstance(gene.scale, Grid):
                reals += gene.size
            else:
                (integers if gene.scale.ordered else categories).extend([gene.scale.levels] * gene.size)
        if self.selection is not None:
            reals += len(self.models) if self.selection.real else 0
            categories += [] if self.selection.real else [2] * len(self.models)
        return Domain(reals=reals, integers=tuple(integers), categories=tuple(categories))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        chosen = [f"method {group.label}" for group in self.method_groups] or ["method"]
        named: dict[str, list[str]] = {"real": [], "integer": [], "category": chosen[: self.method_choices]}
        for gene in self.genes:
            owners = [self.models[i] for i in gene.models] if not gene.shared_by_models else []
            part = f"({gene.part})" if gene.part else ""
            named[_kind(gene)] += [
                " ".join(word for word in (gene.name, owner, label, part) if word)
                for owner in owners or [""]
                for label in ([""] if gene.variant else gene.division.labels)
            ]
        if self.selection is not None:
            named["real" if self.selection.real else "category"] += [f"take {model}" for model in self.models]
        return (*named["real"], *named["integer"], *named["category"])

    @property
    def start(self) -> Point:
        """The point that the space's own start values describe."""
        values = [[gene.scale.coordinate(gene.start)] * gene.size for gene in self.genes]  # type: ignore[arg-type]
        return self.point(values, [0] * self.method_choices, self.selection.start if self.selection else ())

    def point(
        self, values: Sequence[Sequence[float]], chosen: Sequence[int], taking: Sequence[bool] | tuple[()]
    ) -> Point:
        """Return a point.

        Args:
            values: the coordinates of each gene.
            chosen: number of each chosen method.
            taking: of each model whether it takes part, if that is a choice.
        """
        of_kind: dict[str, list[float]] = {"real": [], "integer": [], "category": [*chosen]}
        for gene, own in zip(self.genes, values, strict=True):
            of_kind[_kind(gene)] += own
        if self.selection is not None:
            if self.selection.real:
                of_kind["real"] += [ON if on else OFF for on in taking]
            else:
                of_kind["category"] += [int(on) for on in taking]
        return Point(
            reals=tuple(of_kind["real"]),
            integers=tuple(map(int, of_kind["integer"])),
            categories=tuple(map(int, of_kind["category"])),
        )

    def straightened(self, reals: Sequence[float]) -> tuple[float, ...]:
        """Return what stands for real coordinates on a linear scale: recipe values are linear in it.

        Args:
            reals: of a point; a little outside of [0, 1] is allowed.
        """
        found, position = [], 0
        for gene in self.genes:
            if isinstance(gene.scale, Grid):
                own = reals[position : position + gene.size]
                position += gene.size
                low, span = gene.scale.low, gene.scale.high - gene.scale.low
                found += [(gene.scale.straight(u) - low) / span if gene.scale.log else u for u in own]
        return (*found, *reals[position:])

    @property
    def no_gradient(self) -> str | None:
        """Why a search cannot follow gradients, or None."""
        bounded = [gene.name for gene in self.genes if gene.total is not None]
        if bounded:
            return f"{bounded[0]} has a total, which ties the values of all models together"
        if self.selection is not None:
            return "whether a parent takes part has no derivative"
        return None

    @property
    def recipe_count(self) -> int | None:
        """Number of distinct recipes, up to MAX_COUNT; None where methods differ by group or totals are bounded."""
        if self.method_groups or any(gene.total for gene in self.genes):
            return None
        sizes = self.selection.sizes() if self.selection else [(len(self.models), 1)]
        total = 0
        for name in self.method_names:
            own = [gene for gene in self.genes if knows(methods.get(name), gene)]
            for taking, ways in sizes:
                values = [gene.scale.levels ** _size(gene, taking) for gene in own]
                total += ways * math.prod(values)
        return total if total <= MAX_COUNT else None

    # -- recipes

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point; values snap to the genes' grids.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        chosen = [methods.get(self.method_names[k]) for k in point.categories[: self.method_choices]]
        chosen = chosen or [methods.get(self.method_names[0])]
        coordinates = self.by_gene(point)
        taking = self._taking(point, coordinates)
        shared: dict[str, dict[str, Any]] = {part: {} for part in self.parts or ("",)}
        own: dict[str, list[dict[str, Any]]] = {part: [{} for _ in self.models] for part in shared}
        variants = {}
        for number, (gene, found) in enumerate(zip(self.genes, coordinates, strict=True)):
            used = self.used_groups(number, chosen)
            if used is None or (gene.models and not taking):
                continue
            if gene.variant:
                variants[gene.name] = gene.scale.value(found[0])
                continue
            values = self._values(gene, found, taking)
            if not gene.models:
                _put(shared[gene.part], gene, gene.setting(values[0], used))
            else:
                for index, model in enumerate(gene.models):
                    _put(own[gene.part][model], gene, gene.setting(values[0 if gene.shared_by_models else index], used))
        bodies = {part: self._body(own[part], taking, shared[part], self._fixed(part, chosen)) for part in shared}
        return self._document(chosen, bodies, variants)

    def by_gene(self, point: Point) -> list[Sequence[float]]:
        """Return the coordinates of each gene."""
        rows: dict[str, Iterator[float]] = {
            "real": iter(point.reals),
            "integer": iter(point.integers),
            "category": iter(point.categories[self.method_choices :]),
        }
        return [[next(rows[_kind(gene)]) for _ in range(gene.size)] for gene in self.genes]

    def _taking(self, point: Point, coordinates: Sequence[Sequence[float]]) -> list[int]:
        """Return the numbers of the models that take part."""
        if self.selection is None:
            return list(range(len(self.models)))
        count = len(self.models)
        if self.selection.real:
            return self.selection.chosen(point.reals[-count:], point.reals[-count:])
        ranked = [i for i, gene in enumerate(self.genes) if gene.columns == count and gene.is_real and count > 1]
        ranked.sort(key=lambda i: self.genes[i].name != WEIGHT)
        ranks = [0.0] * count
        if ranked:
            gene, found = self.genes[ranked[0]], coordinates[ranked[0]]
            ranks = [math.fsum(column) for column in gene.by_column(found)]  # type: ignore[arg-type]
        return self.selection.chosen(point.categories[-count:], ranks)

    def used_groups(self, gene: int, chosen: Sequence[methods.Method]) -> list[bool] | None:
        """Return which groups of a gene have a method that knows it; empty = all of them, None = no group.

        Args:
            gene: its number.
            chosen: the method of each method group, or one for all.
        """
        known = [knows(method, self.genes[gene]) for method in chosen]
        if not any(known):
            return None
        if all(known):
            return []
        return [any(known[group] for group in touched) for touched in self.touches[gene]]

    def _values(self, gene: Gene, coordinates: Sequence[float], taking: Sequence[int]) -> list[list[Option]]:
        """Return the values of each column, totals kept."""
        columns = [list(column) for column in gene.by_column([gene.scale.value(u) for u in coordinates])]
        if gene.total is not None and taking:
            assert isinstance(gene.scale, Grid)
            for position in range(gene.division.size):
                kept = gene.total.kept([float(columns[i][position]) for i in taking], gene.scale)
                for i, value in zip(taking, kept, strict=True):
                    columns[i][position] = value
        return columns

    def _fixed(self, part: str, chosen: Sequence[methods.Method]) -> dict[str, Any]:
        """Return the fixed parameters of a part that have a meaning; a note of the recipe says which have no effect."""
        known = {parameter.name for method in chosen for parameter in method.parameters}
        fixed = self.parts.get(part, self.parameters)
        return {name: value for name, value in fixed.items() if name in known or name in methods.MERGEKIT_WORDS}

    def _body(
        self, own: Sequence[Mapping[str, Any]], taking: Sequence[int], shared: Mapping[str, Any], fixed: dict[str, Any]
    ) -> dict[str, Any]:
        entries: list[dict[str, Any]] = [
            {"model": self.models[i], **({"parameters": dict(own[i])} if own[i] else {})} for i in taking
        ]
        parameters = {**fixed, **shared}
        return {
            "models": entries or [{"model": self.base}],
            **({"parameters": parameters} if parameters else {}),
        }

    def _document(
        self, chosen: Sequence[methods.Method], bodies: Mapping[str, dict[str, Any]], variants: Mapping[str, Any]
    ) -> dict[str, Any]:
        extension = dict(self.extension)
        if variants:
            extension["variants"] = {**extension.get("variants", {}), **variants}
        if len({method.name for method in chosen}) > 1:
            extension["methods"] = [
                {"filter": pattern, "method": method.name}
                for group, method in zip(self.method_groups[:-1], chosen[:-1], strict=True)
                for pattern in group.patterns
            ]
        parameters = {} if not self.parts else self._fixed("", chosen)
        return {
            "merge_method": chosen[-1].name,
            **({"base_model": self.base} if self.base else {}),
            **({"modules": dict(bodies)} if self.parts else bodies[""]),
            **({"parameters": parameters} if parameters else {}),
            **({"dtype": self.dtype} if self.dtype else {}),
            **({"evomerge": extension} if extension else {}),
        }

    def averaged(self, points: Sequence[Point]) -> Point | None:
        """Return the point whose merge is the average of the merges of some points; None where that is not exact."""
        return averaged_point(self, points)

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a recipe that the space contains: `decode(encode(d)) == d` for every decoded d.

        A recipe of another form is a point if every tensor gets values there that the space can give it: a gradient
        over depth in a space of layers, a filter in a space of modules, and so on.

        Raises:
            InvalidInput: the recipe's methods, models or values lie outside the space.
        """
        return read_point(self, document)


def knows(method: methods.Method, gene: Gene) -> bool:
    """Tell whether a method has a gene's parameter, or its variant."""
    return (method.variant(gene.name) if gene.variant else method.parameter(gene.name)) is not None


def _size(gene: Gene, taking: int) -> int:
    """Return how many values of a gene a recipe of so many models has."""
    if not gene.models or not taking:
        return 0 if gene.models else gene.size
    return gene.division.size * (1 if gene.shared_by_models else taking)


def _put(parameters: dict[str, Any], gene: Gene, setting: Setting) -> None:
    if setting is not None:
        parameters[gene.name] = setting


def _kind(gene: Gene) -> str:
    if not isinstance(gene.scale, Options):
        return "real"
    return "integer" if gene.scale.ordered else "category"
