"""Searches that learn nothing: what every optimizer must beat."""

from collections.abc import Callable, Sequence

from evomerge.optimizers._domain import Vector, point_from_unit
from evomerge.optimizers._pending import PendingProposals
from evomerge.optimizers._protocol import Proposal
from evomerge.records import Domain, Point


class MemorylessOptimizer:
    """An Optimizer whose points do not depend on the values it receives."""

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
