"""Hybrid: first the parameters of a merge, then paths through the blocks of the merge found and of its parents.

After Akiba 2024 (https://arxiv.org/abs/2403.13187): a model from the parameter space joins the parents as the first
model of the data flow space. A point holds both; a search varies one part after the other (`stages`), so that its
first half is an ordinary search for a merge, and its second half varies a path around the merge that this ended at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.recipe import StrictModel, check_document
from evomerge.records import Domain, ParentSummary, Point, Stage
from evomerge.space._protocol import Space, SpaceKind

MERGED = "merged"
"""The name under which a path's recipe holds the merge."""


class HybridEntry(StrictModel):
    """A space in two parts.

    Attributes:
        parameter_space: a space of whole-model merges, as in a space file.
        data_flow: a space of paths, as in a space file; the merge is its first model, the parents follow.
        share: of the candidates that the parameter space gets.
    """

    parameter_space: dict[str, Any] = Field(
        examples=[{"method": "ties", "genes": {"weight": {"per": ["model"], "range": [0.0, 1.0]}}}]
    )
    data_flow: dict[str, Any] = Field(default_factory=dict, examples=[{"moves": 8}])
    share: float = Field(0.5, gt=0, lt=1, examples=[0.7])


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridSpace:
    """A merge, and a path through its blocks and its parents'.

    Attributes:
        merge: the space of merges.
        flow: the space of paths; its first model is called `MERGED`.
        share: of the candidates that merges get.
        description: the plain data that the space was built from.
    """

    merge: Space
    flow: Space
    share: float
    description: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary: the merge's coordinates of a kind, then the path's."""
        merge, flow = self.merge.domain, self.flow.domain
        return Domain(
            reals=merge.reals + flow.reals,
            integers=merge.integers + flow.integers,
            categories=merge.categories + flow.categories,
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        names: list[str] = []
        parts = [(list(space.coordinates), space.domain) for space in (self.merge, self.flow)]
        for kind in range(3):
            for labels, domain in parts:
                sizes = (domain.reals, len(domain.integers), len(domain.categories))
                first = sum(sizes[:kind])
                names += labels[first : first + sizes[kind]]
        return tuple(names)

    @property
    def start(self) -> Point:
        """The start of the space of merges, passed straight through."""
        return _joined(self.merge.start, self.flow.start)

    @property
    def recipe_count(self) -> int | None:
        """None: that of paths is unknown."""
        return None

    @property
    def dtype(self) -> str | None:
        """Dtype of every candidate, or None: as the parents'."""
        return self.merge.dtype

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What a search varies, one after the other: the merge, then the path."""
        merge, whole = self.merge.domain, self.domain
        reals, integers, categories = merge.reals, len(merge.integers), len(merge.categories)
        return (
            Stage("the merge", range(reals), range(integers), range(categories), self.share),
            Stage(
                "the path through its blocks and the parents'",
                range(reals, whole.reals),
                range(integers, len(whole.integers)),
                range(categories, len(whole.categories)),
                1.0 - self.share,
            ),
        )

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe of a point: a merge, where the path is the merge itself, or else a stack that holds it.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        first, second = self._parts(point)
        merge, stack = self.merge.decode(first), self.flow.decode(second)
        if stack == self.flow.decode(self.flow.start):
            return merge
        return {**stack, "evomerge": {**stack.get("evomerge", {}), "merges": {MERGED: merge}}}

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a merge, or of a stack that holds one (the inverse of `decode`).

        Raises:
            InvalidInput: the recipe is not in the space.
        """
        extension = dict(document.get("evomerge", {}))
        merges = extension.pop("merges", {})
        if not merges:
            return _joined(self.merge.encode(document), self.flow.start)
        if set(merges) != {MERGED}:
            raise InvalidInput(f"its merges are called {', '.join(merges)}, in this space there is one: {MERGED}")
        stack = {key: value for key, value in document.items() if key != "evomerge"}
        return _joined(
            self.merge.encode(merges[MERGED]),
            self.flow.encode({**stack, **({"evomerge": extension} if extension else {})}),
        )

    def _parts(self, point: Point) -> tuple[Point, Point]:
        merge = self.merge.domain
        reals, integers, categories = merge.reals, len(merge.integers), len(merge.categories)
        return (
            Point(
                reals=point.reals[:reals],
                integers=point.integers[:integers],
                categories=point.categories[:categories],
            ),
            Point(
                reals=point.reals[reals:],
                integers=point.integers[integers:],
                categories=point.categories[categories:],
            ),
        )


def _joined(first: Point, second: Point) -> Point:
    return Point(
        reals=first.reals + second.reals,
        integers=first.integers + second.integers,
        categories=first.categories + second.categories,
    )


def hybrid_kind(merge: SpaceKind, flow: SpaceKind) -> SpaceKind:
    """Return the kind that joins a kind of merges and a kind of paths."""

    def build(data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> Space:
        entry, problems = check_document(HybridEntry, data, where)
        if entry is None:
            raise InvalidFile(problems)
        parts: list[Space] = []
        merged = replace(models[0], name=MERGED)
        for key, kind, parents in (
            ("parameter_space", merge, (base, models)),
            ("data_flow", flow, (merged, models)),
        ):
            options = dict(getattr(entry, key))
            if options.pop("kind", kind.name) != kind.name:
                problems.append(Problem(f"{where}: {key}.kind", f"expected {kind.name}"))
            if key == "data_flow" and "moves" in options:
                problems.append(Problem(f"{where}: data_flow.moves", "cannot be searched after a merge; remove it"))
            try:
                parts.append(kind.build(options, where=f"{where}: {key}", base=parents[0], models=parents[1]))
            except InvalidFile as error:
                problems += error.problems
        if problems:
            raise InvalidFile(problems)
        return HybridSpace(merge=parts[0], flow=parts[1], share=entry.share, description={"kind": "hybrid", **data})

    return SpaceKind(
        name="hybrid", description="a merge first, then paths through its blocks and its parents'", build=build
    )
