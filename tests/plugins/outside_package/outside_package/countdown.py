"""The optimizer `countdown`: lowers each coordinate from 1 in small steps, and learns nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.optimizers import OptimizerSpec, PendingProposals, Proposal
from evomerge.records import Domain, Point

STEPS = 16


class Countdown:
    """Proposes STEPS points over and over."""

    name, generation_size = "countdown", 4

    def __init__(
        self, domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
    ) -> None:
        self.objectives = objectives
        self._domain, self._pending = domain, PendingProposals(domain, objectives)

    def ask(self) -> Proposal:
        """Return the next point."""
        asked = self._pending.asked
        level = 1.0 - (asked % STEPS) / STEPS
        point = self._pending.next_injected() or Point(reals=(level,) * self._domain.reals)
        return self._pending.propose(asked // self.generation_size, point)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Check the answer and forget it."""
        self._pending.close(number, values)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None


COUNTDOWN = OptimizerSpec(
    name=Countdown.name, description="counts down", create=Countdown, integers=False, categories=False
)
