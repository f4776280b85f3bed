"""Which proposals are unanswered, points waiting to be proposed, and the searches that need no more than that."""

import math
from collections import deque
from collections.abc import Callable, Sequence

from evomerge.errors import InvalidInput
from evomerge.optimizers.core._domain import Vector, point_from_unit
from evomerge.optimizers.core._protocol import Proposal
from evomerge.records import Domain, Point


class PendingProposals:
    """The part of ask, tell and inject that is the same for every optimizer."""

    def __init__(self, domain: Domain, objectives: int) -> None:
        """Start without proposals.

        Args:
            domain: of all points.
            objectives: number of values in an answer.
        """
        self._domain = domain
        self._objectives = objectives
        self._asked = 0
        self._open: set[int] = set()
        self._injected: deque[Point] = deque()

    @property
    def asked(self) -> int:
        """Number of proposals so far, which is the number of the next one."""
        return self._asked

    @property
    def has_injected(self) -> bool:
        """Whether points wait to be proposed."""
        return bool(self._injected)

    def inject(self, points: Sequence[Point]) -> None:
        """Queue points.

        Raises:
            InvalidInput: a point is not in the domain; then none of them is queued.
        """
        for point in points:
            self._domain.check(point)
        self._injected.extend(points)

    def next_injected(self) -> Point | None:
        """Take the first queued point, if there is one."""
        return self._injected.popleft() if self._injected else None

    def propose(self, generation: int, point: Point, *, gradient: bool = False) -> Proposal:
        """Number a proposal and leave it unanswered."""
        proposal = Proposal(number=self._asked, generation=generation, point=point, gradient=gradient)
        self._open.add(proposal.number)
        self._asked += 1
        return proposal

    def check_open(self, number: int) -> None:
        """Check that a proposal waits for its answer.

        Raises:
            InvalidInput: it was answered, or never asked.
        """
        if number not in self._open:
            state = "was already answered" if 0 <= number < self._asked else "was never asked"
            raise InvalidInput(f"proposal {number} {state}; tell() takes each asked number once")

    def close(self, number: int, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """Check an answer and return it as plain floats.

        Raises:
            InvalidInput: see `Optimizer.tell`; the proposal then stays open.
        """
        self.check_open(number)
        if values is not None:
            values = tuple(float(value) for value in values)
            if len(values) != self._objectives:
                raise InvalidInput(f"proposal {number} got {len(values)} values, expected {self._objectives}")
            if not all(math.isfinite(value) for value in values):
                raise InvalidInput(f"proposal {number} got {values}; values must be finite, and None if not scored")
        self._open.remove(number)
        return values


class MemorylessOptimizer:
    """An Optimizer whose points do not depend on the values it receives: what every other one must beat."""

    def __init__(
        self,
        name: str,
        domain: Domain,
        draw: Callable[[], Vector],
        *,
        objectives: int,
        start: Point | None,
        generation_size: int,
    ) -> None:
        """Start without proposals.

        Args:
            name: of the optimizer.
            domain: what may be varied.
            draw: returns the next vector in [0, 1), shape (domain.size,).
            objectives: number of values in an answer.
            start: first proposal, or None.
            generation_size: proposals that share an item subset.
        """
        self.name = name
        self.objectives = objectives
        self.generation_size = generation_size
        self._domain = domain
        self._draw = draw
        self._pending = PendingProposals(domain, objectives)
        self._pending.inject([start] if start else [])

    def ask(self) -> Proposal:
        """Return the next point."""
        point = self._pending.next_injected() or point_from_unit(self._domain, self._draw())
        return self._pending.propose(self._pending.asked // self.generation_size, point)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Check the answer and forget it."""
        self._pending.close(number, values)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None
