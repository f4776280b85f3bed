"""Spaces of layer stacks: which parent's block is at each depth, how often, and with which gain."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import InvalidFile, InvalidInput, Problem, did_you_mean
from evomerge.recipe import check_document
from evomerge.records import Domain, ParentSummary, Point
from evomerge.space._paths import METHOD, StackBlock, path_of, stack_of
from evomerge.space._protocol import MAX_COUNT, SpaceKind
from evomerge.space._schema import GeneEntry, SpaceEntry
from evomerge.space.genes import Grid

GENES = ("source", "repeat", "gain")
_MAX_REPEATS = 8
_DEFAULT_REPEATS = 2
_DEFAULT_GAIN = (0.5, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpace:
    """At each depth: a choice among the parents' blocks of that depth, 0..max_repeat times, with a gain.

    Attributes:
        base: name of the model that gives config, embeddings, final norm and head.
        models: names of the models to choose blocks from, the base first.
        num_layers: of each of them.
        vary_source: whether the source of a block is a choice; else it is always the base.
        vary_repeat: whether the number of times is an integer; else it is always once.
        max_repeat: most times that a block occurs in a row.
        gain: the blocks' gains, or None: always 1.
        gain_start: where a search begins.
        gain_labels: what has a gain of its own.
        dtype: of every candidate, or None: as the parents'.
        extension: fixed `evomerge:` block of every recipe.
        description: the plain data that the space was built from.
    """

    base: str
    models: tuple[str, ...]
    num_layers: int
    vary_source: bool
    vary_repeat: bool
    max_repeat: int
    gain: Grid | None
    gain_start: float
    gain_labels: tuple[str, ...]
    dtype: str | None
    extension: Mapping[str, Any]
    description: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""
        return Domain(
            reals=len(self.gain_labels) if self.gain else 0,
            integers=(self.max_repeat + 1,) * self.num_layers if self.vary_repeat else (),
            categories=(len(self.models),) * self.num_layers if self.vary_source else (),
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point: reals, then integers, then choices."""
        domain = self.domain
        return (
            *(f"gain {label}" for label in (self.gain_labels if self.gain else ())),
            *(f"repeat layer {layer}" for layer in range(len(domain.integers))),
            *(f"source layer {layer}" for layer in range(len(domain.categories))),
        )

    @property
    def start(self) -> Point:
        """The base itself: each of its blocks once, with gain 1 (or the gain's own start)."""
        domain = self.domain
        reals = (self.gain.coordinate(self.gain_start),) * domain.reals if self.gain else ()
        return Point(reals=reals, integers=(1,) * len(domain.integers), categories=(0,) * len(domain.categories))

    @property
    def recipe_count(self) -> int | None:
        """Number of distinct recipes, up to MAX_COUNT. Where a block is left out, source and gain change nothing."""
        sources = len(self.models) if self.vary_source else 1
        empty, repeats = (1, self.max_repeat) if self.vary_repeat else (0, 1)
        gains = self.gain.levels if self.gain else 1
        if self.gain is not None and len(self.gain_labels) == 1:  # one gain for the whole stack
            total = ((empty + repeats * sources) ** self.num_layers - empty) * gains + empty
        else:
            total = (empty + repeats * sources * gains) ** self.num_layers
        return total if total <= MAX_COUNT else None

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point. A point without any block gives a recipe without layers.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        gains = [self.gain.value(u) for u in point.reals] if self.gain else []
        path = []
        for layer in range(self.num_layers):
            model = self.models[point.categories[layer]] if point.categories else self.base
            gain = gains[layer if len(gains) > 1 else 0] if gains else 1.0
            path += [StackBlock(model, layer, gain)] * (point.integers[layer] if point.integers else 1)
        return stack_of(path, base=self.base, dtype=self.dtype, extension=self.extension)

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a stack that the space contains (the inverse of `decode`).

        Raises:
            InvalidInput: it is no stack; a block is out of order, of a model outside the space, or occurs too often;
                the ends are not the base's; a gain is outside the gene's grid.
        """
        ends, path = path_of(document)
        if ends != {self.base}:
            raise InvalidInput(f"its embeddings, final norm and head are not all {self.base}'s")
        chosen: dict[int, tuple[str, list[float]]] = {}
        last = -1
        for depth, (model, layer, gain) in enumerate(path):
            if layer < last or model not in self.models or chosen.get(layer, (model, []))[0] != model:
                raise InvalidInput(f"block {layer} of {model} at depth {depth} does not fit this space")
            chosen.setdefault(layer, (model, []))[1].append(gain)
            last = layer
        point = self._point(chosen)
        step = self.gain.step if self.gain else 0.0
        for (_, layer, gain), (_, _, meant) in zip(path, path_of(self.decode(point)).blocks, strict=True):
            if abs(gain - meant) > step + 1e-9:
                raise InvalidInput(f"the gain {gain:g} of block {layer} does not fit this space")
        return point

    def _point(self, chosen: Mapping[int, tuple[str, list[float]]]) -> Point:
        start, domain = self.start, self.domain
        layers = range(self.num_layers)
        repeats = [len(chosen[layer][1]) if layer in chosen else 0 for layer in layers]
        if any(layer >= self.num_layers for layer in chosen):
            raise InvalidInput(f"block {max(chosen)} does not exist; the models have {self.num_layers}")
        if max(repeats) > self.max_repeat or (not domain.integers and min(repeats) != 1):
            raise InvalidInput(f"blocks are repeated {max(repeats)} times, this space allows {self.max_repeat}")
        sources = [self.models.index(chosen[layer][0]) if layer in chosen else 0 for layer in layers]
        reals = start.reals
        if self.gain:
            known = {layer: self.gain.coordinate(used[0]) for layer, (_, used) in chosen.items()}
            common = next(iter(known.values()), start.reals[0])
            reals = (common,) if len(reals) == 1 else tuple(known.get(i, start.reals[i]) for i in layers)
        return Point(
            reals=reals,
            integers=tuple(repeats) if domain.integers else (),
            categories=tuple(sources) if domain.categories else (),
        )


def build(data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> StackSpace:
    """Check a space's plain data against the parents and return the space (see `BuildSpace`)."""
    entry, problems = check_document(SpaceEntry, data, where)
    if entry is None:
        raise InvalidFile(problems)
    if entry.method.names != (METHOD,):
        problems.append(
            Problem(
                f"{where}: method", f"found {', '.join(entry.method.names)}, expected {METHOD}: a stack merges nothing"
            )
        )
    problems += _problems(entry, where)
    if problems:
        raise InvalidFile(problems)
    return _built(entry, base, models, data)


def _problems(entry: SpaceEntry, where: str) -> Iterator[Problem]:
    if not entry.genes:
        yield Problem(f"{where}: genes", f"is missing; a layer stack varies {', '.join(GENES)}")
    for name in entry.parameters:
        yield Problem(f"{where}: parameters.{name}", "a layer stack has no fixed parameters")
    for key in ("levels", "parents", "modules"):
        if getattr(entry, key):
            yield Problem(f"{where}: {key}", f"a layer stack has no {key}; leave them out")
    for name, gene in entry.genes.items():
        place = f"{where}: genes.{name}"
        if name not in GENES:
            yield Problem(
                place, f"a layer stack has no such gene; known: {', '.join(GENES)}.{did_you_mean(name, GENES)}"
            )
            continue
        for key in ("scale", "values", "total"):
            if key in gene.model_fields_set:
                yield Problem(f"{place}.{key}", "says nothing in a layer stack; leave it out")
        yield from _gene_problems(name, gene, place)


def _gene_problems(name: str, gene: GeneEntry, place: str) -> Iterator[Problem]:
    axes = [axis.kind for axis in gene.per]
    if name != "gain" and axes != ["layer"]:
        yield Problem(f"{place}.per", f"found {axes}, expected layer")
    elif name == "gain" and axes not in ([], ["layer"]):
        yield Problem(f"{place}.per", f"found {axes}, expected layer or nothing")
    elif name == "gain" and gene.range is not None and not 0 < gene.range[0] < gene.range[1] < math.inf:
        yield Problem(f"{place}.range", f"found {list(gene.range)}, expected 0 < low < high")
    elif name == "gain" and gene.start is not None and type(gene.start) not in (int, float):
        yield Problem(f"{place}.start", f"found {gene.start}, expected a number")
    elif name == "gain" and gene.start is not None and not _within(gene.start, gene.range or _DEFAULT_GAIN):
        low, high = gene.range or _DEFAULT_GAIN
        yield Problem(f"{place}.start", f"found {gene.start:g}, expected a value inside [{low:g}, {high:g}]")
    elif name == "repeat" and gene.range is not None and not _whole(gene.range):
        yield Problem(f"{place}.range", f"found {list(gene.range)}, expected [0, most] in whole numbers")
    elif name == "source" and (gene.range is not None or gene.start is not None):
        yield Problem(place, "a choice of models has neither range nor start")


def _whole(span: tuple[float, float]) -> bool:
    return span[0] == 0 and span[1] in range(1, _MAX_REPEATS + 1)


def _within(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value <= span[1]


def _built(
    entry: SpaceEntry, base: ParentSummary | None, models: Sequence[ParentSummary], data: Mapping[str, Any]
) -> StackSpace:
    parents = [base, *models] if base else list(models)
    repeat, gain = entry.genes.get("repeat"), entry.genes.get("gain")
    layers = parents[0].num_layers
    labels = [f"layer {layer}" for layer in range(layers)] if gain and gain.per else ["all"]
    low, high = (gain.range if gain else None) or _DEFAULT_GAIN
    return StackSpace(
        base=parents[0].name,
        models=tuple(parent.name for parent in parents),
        num_layers=layers,
        vary_source="source" in entry.genes,
        vary_repeat="repeat" in entry.genes,
        max_repeat=int(repeat.range[1] if repeat.range else _DEFAULT_REPEATS) if repeat else 1,
        gain=None if gain is None else Grid(low=low, high=high),
        gain_start=min(high, max(low, 1.0 if gain is None or gain.start is None else gain.start)),
        gain_labels=tuple(labels),
        dtype=entry.dtype,
        extension=entry.evomerge,
        description=data,
    )


STACK = SpaceKind(
    name="stack",
    description="layer stacks: which parent's block is at each depth, how often, and with which gain",
    build=build,
)
