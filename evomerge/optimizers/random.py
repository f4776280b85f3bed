"""Searches that learn nothing: what every optimizer must beat."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.optimizers._domain import Vector, point_from_unit
from evomerge.optimizers._pending import PendingProposals
from evomerge.optimizers._protocol import Proposal
from evomerge.records import Domain, Point

_GENERATION = 16


class MemorylessOptimizer:
    """An Optimizer whose points do not depend on what it was told."""

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
        self.name = name
        self.objectives = objectives
        self.generation_size = generation_size
        self._domain = domain
        self._draw = draw
        self._book = PendingProposals(domain, objectives)
        self._book.inject([start] if start else [])

    def ask(self) -> Proposal:
        """Return the next point."""
        point = self._book.next_injected() or point_from_unit(self._domain, self._draw())
        return self._book.propose(self._book.asked // self.generation_size, point)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Check the answer and forget it."""
        self._book.close(number, values)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._book.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None


def create_random(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> MemorylessOptimizer:
    """Build `random`: uniform and independent; `start` is the first proposal."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return MemorylessOptimizer(
        "random",
        domain,
        lambda: generator.random(domain.size),
        objectives=objectives,
        start=start,
        generation_size=options.get("generation_size", _GENERATION),
    )


def create_quasi_random(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> MemorylessOptimizer:
    """Build `quasi_random`: a scrambled Sobol sequence (Owen 1998); `start` is the first proposal."""
    from scipy.stats import qmc  # scipy is heavy, and only this baseline needs it

    sobol = qmc.Sobol(domain.size, scramble=True, seed=np.random.Generator(np.random.PCG64(seed)))
    return MemorylessOptimizer(
        "quasi_random",
        domain,
        lambda: sobol.random(1)[0],
        objectives=objectives,
        start=start,
        generation_size=options.get("generation_size", _GENERATION),
    )
