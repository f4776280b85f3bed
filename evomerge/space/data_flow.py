"""Data flow: which blocks of all parents are passed through, in a fixed order, and with which gains.

After Akiba 2024 (https://arxiv.org/abs/2403.13187, data flow space): all blocks of all models are laid out in a row,
the row is repeated, and a point decides for each position whether its block is in the path. The first model's first and
last blocks are always there, and a search begins at that model itself. Where the paper scales the input of a block by a
number for each pair of blocks, a position has a gain here (see `StackBlock`): it says the same of a path, with fewer
numbers, and can be written to an ordinary checkpoint.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.recipe import StrictModel, check_document
from evomerge.records import Domain, ParentSummary, Point
from evomerge.space._paths import StackBlock, path_of, stack_of
from evomerge.space._protocol import Space, SpaceKind
from evomerge.space._stack_moves import MOVES, StackMoves
from evomerge.space.genes import Grid

MAX_REPEATS = 8
DEFAULT_GAIN = (0.5, 1.5)
REAL_INDICATORS = (0.2, 0.8)  # of a position that is out of a path or in it: far enough inside to be changed by search
DEFAULT_DEPTH = 2  # times the first model's layers, where the file sets no cap


class DataFlowEntry(StrictModel):
    """A space of paths.

    Attributes:
        order: of the row: `parents` = all blocks of the first model, then all of the next, as in the paper; `depth` =
            the first blocks of all models, then the second ones.
        repeats: how often the row is laid out.
        gain: range of the positions' gains; null: always 1.
        most_layers: longest path; a longer one is thinned out evenly. Default: twice the first model's layers.
        indicator: `choice` = a yes or no for each position; `real` = a real, in the path from 0.5 on, for optimizers
            without choices.
        moves: so many local changes of the first model (skip, swap, insert, duplicate, rescale) instead of positions.
        dtype: of every candidate.
        evomerge: fixed `evomerge:` block of every recipe.
    """

    order: Literal["depth", "parents"] = Field("depth", examples=["parents"])
    repeats: int = Field(1, ge=1, le=MAX_REPEATS, examples=[2])
    gain: tuple[float, float] | None = Field(DEFAULT_GAIN, examples=[[0.4, 1.5]])
    most_layers: Annotated[int, Field(ge=2)] | None = Field(None, examples=[48])
    indicator: Literal["choice", "real"] = Field("choice", examples=["real"])
    moves: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, examples=[8])
    dtype: Literal["bfloat16", "float16", "float32"] | None = Field(None, examples=["bfloat16"])
    evomerge: dict[str, Any] = Field(default_factory=dict, examples=[{"seed": 1}])


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlowSpace:
    """For each position of the row, whether its block is in the path, and its gain.

    Attributes:
        base: name of the model that gives config, embeddings, first and last block, final norm and head.
        first: the block that every path begins with.
        last: the block that every path ends with.
        row: the blocks in between that may be passed through, in their order.
        most_layers: longest path.
        gain: a position's gain, or None: always 1.
        real: whether an indicator is a real instead of a choice.
        dtype: of every candidate, or None: as the parents'.
        extension: fixed `evomerge:` block of every recipe.
        description: the plain data that the space was built from.
    """

    base: str
    first: StackBlock
    last: StackBlock
    row: tuple[StackBlock, ...]
    most_layers: int
    gain: Grid | None
    real: bool
    dtype: str | None
    extension: Mapping[str, Any]
    description: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary: the gains, then the indicators."""
        length = len(self.row)
        gains = length if self.gain else 0
        return Domain(reals=gains + length) if self.real else Domain(reals=gains, categories=(2,) * length)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        seen: dict[StackBlock, int] = {}
        names = []
        for block in self.row:
            seen[block] = seen.get(block, 0) + 1
            names.append(f"layer {block.layer} of {block.model}" + (f", time {seen[block]}" if seen[block] > 1 else ""))
        gains = [f"gain of {name}" for name in names] if self.gain else []
        return (*gains, *(f"pass {name}" for name in names))

    @property
    def start(self) -> Point:
        """The first model itself."""
        middle = range(1, self.last.layer)
        return self._point([self.first, *(StackBlock(self.base, layer) for layer in middle), self.last])

    @property
    def recipe_count(self) -> int | None:
        """None: different points can be the same path."""
        return None

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point.

        Raises:
            InvalidInput: the point is not in the domain.
        """
        self.domain.check(point)
        length, gains = len(self.row), len(self.row) if self.gain else 0
        chosen = [u >= 0.5 for u in point.reals[gains:]] if self.real else [option == 1 for option in point.categories]
        positions = thinned([position for position in range(length) if chosen[position]], self.most_layers - 2)
        path = [
            self.row[position]._replace(gain=self.gain.value(point.reals[position]))
            if self.gain
            else self.row[position]
            for position in positions
        ]
        return stack_of([self.first, *path, self.last], base=self.base, dtype=self.dtype, extension=self.extension)

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a stack that the space contains (the inverse of `decode`).

        Raises:
            InvalidInput: it is no stack, its ends are not the base's, it is too long, or its blocks or gains are in
                another order or range.
        """
        ends, blocks = path_of(document)
        if ends != {self.base}:
            raise InvalidInput(f"its embeddings, final norm and head are not all {self.base}'s")
        if len(blocks) > self.most_layers:
            raise InvalidInput(f"it has {len(blocks)} layers, this space allows {self.most_layers}")
        return self._point(blocks)

    def _point(self, blocks: Sequence[StackBlock]) -> Point:
        """Return the point of a path: each block at the first position that is left for it."""
        if len(blocks) < 2 or (blocks[0], blocks[-1]) != (self.first, self.last):
            raise InvalidInput(f"it does not begin and end with the outer blocks of {self.base}, unscaled")
        chosen, gains = [0] * len(self.row), [self.gain.coordinate(1.0) if self.gain else 0.0] * len(self.row)
        position = 0
        for depth, block in enumerate(blocks[1:-1], 1):
            while position < len(self.row) and self.row[position] != block._replace(gain=1.0):
                position += 1
            if position == len(self.row):
                raise InvalidInput(f"layer {block.layer} of {block.model} at depth {depth} does not fit this space")
            chosen[position] = 1
            gains[position] = self._gain_coordinate(block)
            position += 1
        if self.real:
            return Point(reals=(*(gains if self.gain else ()), *(REAL_INDICATORS[choice] for choice in chosen)))
        return Point(reals=tuple(gains) if self.gain else (), categories=tuple(chosen))

    def _gain_coordinate(self, block: StackBlock) -> float:
        meant, step = 1.0, 0.0
        if self.gain is not None:
            meant = self.gain.value(self.gain.coordinate(block.gain))
            step = self.gain.step
        if abs(block.gain - meant) > step + 1e-9:
            raise InvalidInput(f"the gain {block.gain:g} of layer {block.layer} does not fit this space")
        return self.gain.coordinate(block.gain) if self.gain else 0.0


def thinned(positions: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the positions, evenly over all of them."""
    if len(positions) <= most:
        return list(positions)
    return [positions[(2 * number + 1) * len(positions) // (2 * most)] for number in range(most)]


def row_of(entry: DataFlowEntry, parents: Sequence[ParentSummary]) -> list[StackBlock]:
    """Return the row of all blocks without the base's first, at its beginning, and its last, at its end."""
    depth = max(parent.num_layers for parent in parents)
    once = [StackBlock(parent.name, layer) for parent in parents for layer in range(parent.num_layers)]
    if entry.order == "depth":
        once = [
            StackBlock(parent.name, layer) for layer in range(depth) for parent in parents if layer < parent.num_layers
        ]
    row = once * entry.repeats
    first, last = StackBlock(parents[0].name, 0), StackBlock(parents[0].name, parents[0].num_layers - 1)
    row.remove(first)
    end = len(row) - 1 - row[::-1].index(last)
    return row[:end] + row[end + 1 :]


def build(data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]) -> Space:
    """Check a space's plain data against the parents and return the space (see `BuildSpace`)."""
    entry, problems = check_document(DataFlowEntry, data, where)
    if entry is None:
        raise InvalidFile(problems)
    parents = [base, *models] if base else list(models)
    problems += _problems(entry, parents, where)
    if problems:
        raise InvalidFile(problems)
    lead = parents[0]
    most = entry.most_layers or DEFAULT_DEPTH * lead.num_layers
    if entry.moves is not None:
        return StackMoves(
            models=tuple(parent.name for parent in parents),
            layers=tuple(parent.num_layers for parent in parents),
            moves=entry.moves,
            most_layers=most,
            gain=_gain(entry),
            dtype=entry.dtype,
            extension=entry.evomerge,
            description={"kind": DATA_FLOW.name, **data},
        )
    return DataFlowSpace(
        base=lead.name,
        first=StackBlock(lead.name, 0),
        last=StackBlock(lead.name, lead.num_layers - 1),
        row=tuple(row_of(entry, parents)),
        most_layers=most,
        gain=_gain(entry),
        real=entry.indicator == "real",
        dtype=entry.dtype,
        extension=entry.evomerge,
        description={"kind": DATA_FLOW.name, **data},
    )


def _problems(entry: DataFlowEntry, parents: Sequence[ParentSummary], where: str) -> Iterator[Problem]:
    lead = parents[0]
    if lead.num_layers < 2:
        yield Problem(
            where, f"{lead.name} has {lead.num_layers} layers, expected at least 2: the first and the last stay"
        )
    elif entry.most_layers is not None and entry.most_layers < lead.num_layers:
        yield Problem(
            f"{where}: most_layers",
            f"found {entry.most_layers}, expected at least the {lead.num_layers} layers of {lead.name}, where a search "
            "starts",
        )
    if (entry.gain is not None and not 0 < entry.gain[0] <= 1 <= entry.gain[1] < math.inf) or entry.gain == (1, 1):
        yield Problem(f"{where}: gain", f"found {list(entry.gain or ())}, expected 0 < low <= 1 <= high, or null")
    if entry.moves is not None:
        for name, standard in (("order", "depth"), ("repeats", 1), ("indicator", "choice")):
            if getattr(entry, name) != standard:
                yield Problem(f"{where}: {name}", "says nothing where moves are searched; remove it")


def _gain(entry: DataFlowEntry) -> Grid | None:
    return None if entry.gain is None else Grid(low=entry.gain[0], high=entry.gain[1])


DATA_FLOW = SpaceKind(
    name="data_flow",
    description=f"paths through the blocks of all parents, with gains; or local moves ({', '.join(MOVES[1:])})",
    build=build,
)
