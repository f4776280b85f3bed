"""What every space is, and the record of a kind of space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from evomerge.errors import InvalidInput
from evomerge.records import Domain, ParentSummary, Point

MAX_COUNT = 10**15
"""Recipes that a space is worth counting to: no search sees more."""


@runtime_checkable
class Space(Protocol):
    """The recipes that a search may visit, as points of a domain.

    A space is a constant: `decode` depends on the point and on nothing else, because a run is resumed by decoding its
    points again. It must be picklable. `evomerge.testing.spaces.SpaceContract` checks all of this.

    A space of reals may have one more attribute, `levels`: a tuple of `evomerge.records.Level`, from coarse to fine,
    which optimizers that can go through one after the other (`optimizers.goes_by_levels`). Where recipe values are no
    linear functions of the reals, `straightened(reals)` may return numbers that they are linear in, and `no_gradient`
    a sentence why a search should not follow gradients, or None. A space whose merges can be averaged exactly may have
    `averaged(points)`: the point whose merge is the average of the points' merges, or None.
    """

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""

    @property
    def coordinates(self) -> Sequence[str]:
        """A readable name for each coordinate of a point, each once: reals, then integers, then categories."""

    @property
    def start(self) -> Point:
        """Where a search begins."""

    @property
    def recipe_count(self) -> int | None:
        """Number of distinct recipes that points decode to, or None where it is unknown or beyond any search.

        A search that has seen so many recipes has seen all.
        """

    @property
    def dtype(self) -> str | None:
        """Dtype that every recipe names and that references get too; None: the parents' own."""

    @property
    def description(self) -> Mapping[str, Any]:
        """Plain data (as JSON knows it) that tells this space from every other one over the same parents.

        It is part of what must stay the same for a run to be resumed.
        """

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe of a point, as plain data.

        Values should snap to a grid, so that equal recipes are recognized and statistics are reused.

        Raises:
            InvalidInput: the point is not in the domain.
        """

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return a point that decodes to a recipe: `decode(encode(d)) == d` for every d that `decode` returned.

        Raises:
            InvalidInput: the recipe is not in the space. A space that cannot invert `decode` raises it always; a
                user's own start recipes are then scored as references, but are no proposals of the optimizer.
        """


class BuildSpace(Protocol):
    """How a kind of space is built; a plain function with these parameters."""

    def __call__(self, data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> Space:
        """Return the space that a search file describes.

        Args:
            data: the file's mapping under `space:`, without `kind`.
            where: the place in the file, for messages.
            base: summary of the base model, or None.
            models: summaries of the other models, in the order of the file.

        Raises:
            InvalidFile: every problem at once.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceKind:
    """A kind of space that a search file can name: `space: {kind: NAME, ...}`.

    Attributes:
        name: in the search file.
        description: one line for people.
        build: makes the space of a search; see `BuildSpace`.
    """

    name: str
    description: str
    build: BuildSpace

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InvalidInput(f"a space kind is called {self.name!r}; expected letters, digits and underscores")
        if not callable(self.build):
            raise InvalidInput(f"build of the space kind {self.name} is {self.build!r}; expected a function")
