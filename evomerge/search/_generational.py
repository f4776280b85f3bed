"""Generations without a barrier, for optimisers that learn from a whole generation at once.

A generation is drawn at its first ask and told when all of its proposals are answered. An idle worker never waits: when
everything of generation g has been handed out, the next ask draws generation g+1 from the distribution as it stands.
Generations may therefore overlap, and be told in another order than they were drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evomerge.records import Domain, Point
from evomerge.search._book import Book
from evomerge.search._domain import Vector
from evomerge.search._types import Proposal


@dataclass(slots=True)
class Batch:
    """One generation as its engine drew it.

    epoch: which of the engine's restarts drew it. vectors: in the engine's own coordinates. points: what is proposed.
    """

    epoch: int
    vectors: list[Vector]
    points: list[Point]


class Engine(Protocol):
    """The library's optimiser behind the generations."""

    @property
    def size(self) -> int:
        """Points in the next batch."""

    def draw(self) -> Batch:
        """Draw a batch from the distribution as it stands."""

    def encode(self, point: Point) -> Vector:
        """Return an injected point in the engine's coordinates."""

    def learn(self, batch: Batch, order: list[int]) -> None:
        """Update from a batch; `order` lists its positions from best to worst."""

    def mean(self) -> Point:
        """Return the centre of the distribution."""


class _Generation:
    """A batch, how much of it was handed out, and the answers so far."""

    def __init__(self, number: int, batch: Batch) -> None:
        self.number = number
        self.batch = batch
        self.handed_out = 0
        self.answers: dict[int, float | None] = {}

    @property
    def size(self) -> int:
        return len(self.batch.points)

    def order(self) -> list[int] | None:
        """Positions from best to worst, or None if more than half of the generation could not be scored.

        Candidates without a score come after every scored one, whatever the scale of the scores; ties go by position,
        which is random because the points were drawn independently. An invented penalty would change the ranking's
        meaning with the scale, and a generation of mostly failures would teach noise.
        """
        answers = [self.answers[position] for position in range(self.size)]
        if 2 * sum(answer is None for answer in answers) > self.size:
            return None
        return sorted(range(self.size), key=lambda p: (answers[p] is None, -(answers[p] or 0.0), p))


class GenerationalOptimizer:
    """An Optimizer (scalar) around an engine. See the module's docstring for what a generation is here."""

    objectives = 1

    def __init__(self, name: str, domain: Domain, engine: Engine) -> None:
        self.name = name
        self._engine = engine
        self._book = Book(domain, objectives=1)
        self._current: _Generation | None = None
        self._drawn = 0
        self._open: dict[int, tuple[_Generation, int]] = {}

    @property
    def generation_size(self) -> int:
        """Proposals in the generation now being handed out."""
        return self._current.size if self._current else self._engine.size

    def ask(self) -> Proposal:
        """Return the next point of the current generation, opening a new one when it is used up.

        An injected point takes the place of a drawn one, so that it is learnt from with the generation it is in.
        """
        if self._current is None or self._current.handed_out == self._current.size:
            self._current = _Generation(self._drawn, self._engine.draw())
            self._drawn += 1
        generation, position = self._current, self._current.handed_out
        generation.handed_out += 1
        injected = self._book.next_injected()
        if injected is not None:
            generation.batch.points[position] = injected
            generation.batch.vectors[position] = self._engine.encode(injected)
        proposal = self._book.propose(generation.number, generation.batch.points[position])
        self._open[proposal.number] = (generation, position)
        return proposal

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal; the generation is learnt from with its last answer, or dropped if most of it failed."""
        values = self._book.close(number, values)
        generation, position = self._open.pop(number)
        generation.answers[position] = None if values is None else values[0]
        if len(generation.answers) == generation.size:
            order = generation.order()
            if order is not None:
                self._engine.learn(generation.batch, order)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._book.inject(points)

    def mean(self) -> Point | None:
        """Return the centre of the distribution."""
        return self._engine.mean()
