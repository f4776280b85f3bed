"""Stacks as a few local changes of one model: blocks skipped, swapped, inserted, duplicated or rescaled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from evomerge.errors import InvalidInput
from evomerge.records import Domain, Point
from evomerge.space._paths import StackBlock, stack_of
from evomerge.space.genes import Grid

MOVES = ("nothing", "skip", "swap", "insert", "duplicate", "rescale")
MOST_SPAN = 4  # blocks that one move changes at most


class Move(NamedTuple):
    """One change of a path.

    Attributes:
        kind: one of MOVES.
        at: place in the path, 0 (after the first block) to 1 (before the last).
        span: number of blocks from there on.
        model: whose blocks are inserted or put in place of others.
        gain: of blocks that are new or rescaled.
    """

    kind: str
    at: float
    span: int
    model: int
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StackMoves:
    """So many moves, one after another, on the first model's path; its first and last blocks stay.

    A path can be reached by different moves, so `encode` refuses every recipe.

    Attributes:
        models: names of the parents, the first one is changed.
        layers: of each of them.
        moves: number of moves.
        most_layers: longest path; a move that would make it longer does nothing.
        gain: a move's gain, or None: always 1, and nothing is rescaled.
        dtype: of every candidate, or None: as the parents'.
        extension: fixed `evomerge:` block of every recipe.
        description: the plain data that the space was built from.
    """

    models: tuple[str, ...]
    layers: tuple[int, ...]
    moves: int
    most_layers: int
    gain: Grid | None
    dtype: str | None
    extension: Mapping[str, Any]
    description: Mapping[str, Any]

    @property
    def _kinds(self) -> tuple[str, ...]:
        return MOVES if self.gain else MOVES[:-1]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary: places and gains; spans; kinds and models."""
        return Domain(
            reals=self.moves * (2 if self.gain else 1),
            integers=(MOST_SPAN,) * self.moves,
            categories=(len(self._kinds),) * self.moves + (len(self.models),) * self.moves,
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        words = ["place", *(["gain"] if self.gain else []), "span", "kind", "model"]
        return tuple(f"{word} of move {number + 1}" for word in words for number in range(self.moves))

    @property
    def start(self) -> Point:
        """The first model itself, the moves' places spread over it."""
        places = tuple((number + 0.5) / self.moves for number in range(self.moves))
        gains = (self.gain.coordinate(1.0),) * self.moves if self.gain else ()
        return Point(
            reals=places + gains,
            integers=(0,) * self.moves,
            categories=(0,) * (2 * self.moves),
        )

    @property
    def recipe_count(self) -> int | None:
        """None: different moves can make the same path."""
        return None

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        path = [StackBlock(self.models[0], layer) for layer in range(self.layers[0])]
        for number in range(self.moves):
            path = self._moved(path, self._move(point, number))
        return stack_of(path, base=self.models[0], dtype=self.dtype, extension=self.extension)

    def _move(self, point: Point, number: int) -> Move:
        return Move(
            kind=self._kinds[point.categories[number]],
            at=point.reals[number],
            span=point.integers[number] + 1,
            model=point.categories[self.moves + number],
            gain=self.gain.value(point.reals[self.moves + number]) if self.gain else 1.0,
        )

    def _moved(self, path: list[StackBlock], move: Move) -> list[StackBlock]:
        """Return the path after a move."""
        inner = len(path) - 2
        if inner < 1:
            return path
        first = 1 + min(int(move.at * inner), inner - 1)
        end = min(first + move.span, len(path) - 1)
        span = path[first:end]
        changes = {
            "nothing": span,
            "skip": [],
            "swap": [self._same_depth(block, move) for block in span],
            "insert": [*span, *(self._same_depth(block, move) for block in span)],
            "duplicate": [*span, *(block._replace(gain=move.gain) for block in span)],
            "rescale": [block._replace(gain=move.gain) for block in span],
        }
        changed = [*path[:first], *changes[move.kind], *path[end:]]
        return changed if len(changed) <= self.most_layers else path

    def _same_depth(self, block: StackBlock, move: Move) -> StackBlock:
        """Return the block of the move's model that is as deep in it as the given one is in its own."""
        last, own_last = self.layers[move.model] - 1, self.layers[self.models.index(block.model)] - 1
        layer = block.layer if last == own_last else round(block.layer * last / max(own_last, 1))
        return StackBlock(self.models[move.model], layer, move.gain)

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Refuse every recipe.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput("the moves that make a stack are not unique, so no recipe is a point of this space")
