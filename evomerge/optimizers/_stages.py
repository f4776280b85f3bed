"""One part of a point after the other: an optimizer for each stage of a space, around what the last one ended at."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from evomerge.optimizers.core import ItemOptimizer, ItemValue, Optimizer, PendingProposals, Proposal
from evomerge.records import Domain, Point, Stage

Coordinate = TypeVar("Coordinate", int, float)
CreateStage = Callable[[int, Domain, Point], Optimizer]
"""Creates the optimizer of a stage: number of the stage, its domain, where it starts."""


class StageOptimizer:
    """A scalar optimizer that varies the coordinates of one stage and keeps the others where the last stage left them.

    A stage ends with the generation in which its share of the planned candidates is spent; the last goes on for good.
    It leaves the mean of its distribution, or where there is none, its best point.

    Attributes:
        name: of the optimizers.
        objectives: number of values of an answer.
    """

    def __init__(
        self, domain: Domain, stages: Sequence[Stage], create: CreateStage, *, start: Point, planned: int
    ) -> None:
        """Begin with the first stage.

        Args:
            domain: of the points.
            stages: at least one; together they vary every coordinate.
            create: of a stage's optimizer.
            start: a point of the domain.
            planned: candidates of the whole search, about.
        """
        self._domain, self._stages, self._create, self._planned = domain, stages, create, planned
        self._center = start
        self._generation = self._first_generation = 0
        self._begin(0)
        self.name, self.objectives = self._inner.name, self._inner.objectives
        self._pending = PendingProposals(domain, self.objectives)

    def _begin(self, stage: int) -> None:
        part = self._stages[stage]
        self.stage = stage
        inner = Domain(
            reals=len(part.reals),
            integers=tuple(self._domain.integers[k] for k in part.integers),
            categories=tuple(self._domain.categories[k] for k in part.categories),
        )
        self._inner = self._create(stage, inner, self._part(self._center))
        self._numbers: dict[int, int] = {}  # of open proposals of this stage -> the inner optimizer's
        self._points: dict[int, Point] = {}
        self._asked = self._in_generation = 0
        self._best: tuple[float, Point] | None = None

    @property
    def level_name(self) -> str:
        """The current stage's name for people."""
        return self._stages[self.stage].name

    @property
    def level_size(self) -> int:
        """How many numbers the current stage varies."""
        return self._stages[self.stage].size

    def _part(self, point: Point) -> Point:
        part = self._stages[self.stage]
        return Point(
            reals=tuple(point.reals[k] for k in part.reals),
            integers=tuple(point.integers[k] for k in part.integers),
            categories=tuple(point.categories[k] for k in part.categories),
        )

    def _whole(self, inner: Point) -> Point:
        part, center = self._stages[self.stage], self._center
        return Point(
            reals=_replaced(center.reals, part.reals, inner.reals),
            integers=_replaced(center.integers, part.integers, inner.integers),
            categories=_replaced(center.categories, part.categories, inner.categories),
        )

    @property
    def generation_size(self) -> int:
        """Number of proposals that share an item subset."""
        return self._inner.generation_size

    def ask(self) -> Proposal:
        """Return the next point of the stage, or of the next stage where this one has ended."""
        if self._ended():
            self._next_stage()
        injected = self._pending.next_injected()
        if injected is not None:
            self._inner.inject([self._part(injected)])
        proposed = self._inner.ask()
        generation = self._first_generation + proposed.generation
        self._in_generation = self._in_generation + 1 if generation == self._generation else 1
        self._generation = generation
        point = injected or self._whole(proposed.point)
        proposal = self._pending.propose(generation, point)
        self._numbers[proposal.number], self._points[proposal.number] = proposed.number, point
        self._asked += 1
        return proposal

    def _ended(self) -> bool:
        last = self.stage + 1 == len(self._stages)
        spent = self._asked >= self._stages[self.stage].share * self._planned
        return not last and spent and self._in_generation >= self._inner.generation_size

    def _next_stage(self) -> None:
        mean = self._inner.mean()
        if mean is not None:
            self._center = self._whole(mean)
        elif self._best is not None:
            self._center = self._whole(self._part(self._best[1]))
        self._first_generation = self._generation + 1
        self._begin(self.stage + 1)

    def tell_items(self, number: int, items: Mapping[str, ItemValue]) -> None:
        """Take what an open proposal earned for each item, just before its `tell`."""
        self._pending.check_open(number)
        if number in self._numbers and isinstance(self._inner, ItemOptimizer):
            self._inner.tell_items(self._numbers[number], items)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal; the answers of earlier stages come too late to teach."""
        values = self._pending.close(number, values)
        inner = self._numbers.pop(number, None)
        if inner is None:
            return
        point = self._points.pop(number)
        if values is not None and (self._best is None or sum(values) > self._best[0]):
            self._best = (sum(values), point)
        self._inner.tell(inner, values)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return the mean of the stage's distribution, as a point of the whole space."""
        mean = self._inner.mean()
        return None if mean is None else self._whole(mean)


def _replaced(values: tuple[Coordinate, ...], places: range, own: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
    """Return values with others in some places."""
    return values[: places.start] + own + values[places.stop :]
