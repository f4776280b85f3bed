"""LRA-CMA-ES by cmaes (Nomura 2023, https://arxiv.org/abs/2304.03473): smaller steps where the signal is noise.

The learning rate of mean and covariance follows the signal-to-noise ratio of their updates, which saves the larger
population that noisy or multimodal objectives otherwise need. Real coordinates only.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.optimizers.core import (
    BEGIN,
    OUTSIDE,
    POPSIZE,
    SIGMA0,
    GenerationalOptimizer,
    OptimizerSpec,
    Vector,
    VectorCodec,
    center,
)
from evomerge.records import Domain, Point

if TYPE_CHECKING:
    from cmaes import CMA


class CmaesStrategy:
    """One cmaes instance and its restarts: at its mean, with twice the population, as in `cma.py`.

    Its population follows the number of workers (see `core/_generational.py`).
    """

    def __init__(self, domain: Domain, seed: int, start: Point | None, options: Mapping[str, Any]) -> None:
        self.codec = VectorCodec(domain=domain)
        self._sigma0 = options["sigma0"]
        self._seeds = np.random.SeedSequence(seed)
        self.epoch = 0
        self._popsize = options["popsize"]
        self._es = self._new(self.codec.encode(start or center(domain)), self._popsize)
        self._converged: Point | None = None

    def _new(self, mean: Vector, popsize: int | None, deviations: Vector | None = None) -> "CMA":
        from cmaes import CMA

        return CMA(
            mean=mean.copy(),
            sigma=self._sigma0,
            cov=None if deviations is None else np.diag((deviations / self._sigma0) ** 2),
            bounds=np.array([[0.0, 1.0]] * self.codec.size),
            seed=int(self._seeds.spawn(1)[0].generate_state(1)[0]),
            population_size=popsize,
            lr_adapt=True,
        )

    @property
    def size(self) -> int:
        """The population size of cmaes."""
        return self._es.population_size

    def draw(self) -> Vector:
        """Sample one point."""
        return self._es.ask()

    def learn(self, ranked: list[Vector]) -> None:
        """Tell the ranks of a whole generation; cmaes takes no less."""
        self._es.tell([(vector, float(rank)) for rank, vector in enumerate(ranked)])
        if self._es.should_stop():
            self._converged = self.codec.decode(self._es.mean)
            self._es = self._new(self.codec.encode(self._converged), 2 * self.size)
            self.epoch += 1

    @property
    def _deviations(self) -> Vector:
        """The standard deviations of what is drawn; cmaes has no public name for them."""
        deviations: Vector = self._es._sigma * np.sqrt(np.diag(self._es._C))
        return deviations

    def widen(self, size: int) -> bool:
        """Go on with a larger population: the same mean and standard deviations, without their correlations."""
        if self._popsize is not None:
            return False
        self._go_on(self._es.mean, size)
        return True

    def follow(self, vector: Vector) -> None:
        """Go on around a point, if it lies outside of where most points are drawn."""
        if np.linalg.norm((vector - self._es.mean) / self._deviations) > OUTSIDE * math.sqrt(self.codec.size):
            self._go_on(vector, self.size)

    def _go_on(self, mean: Vector, size: int) -> None:
        self._es = self._new(np.clip(mean, 0.0, 1.0), size, self._deviations)
        self.epoch += 1

    def mean(self) -> Point:
        """Return the last converged mean, or else the current one; clipped to the bounds."""
        return self._converged or self.codec.decode(self._es.mean)


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> GenerationalOptimizer:
    """Build `cmaes_lra`; `start` is the first mean."""
    return GenerationalOptimizer(CMAES_LRA.name, domain, CmaesStrategy(domain, seed, start, options))


CMAES_LRA = OptimizerSpec(
    name="cmaes_lra",
    description="CMA-ES with learning-rate adaptation (cmaes): for very noisy scores; weighted mean",
    create=create,
    options=(BEGIN, SIGMA0, POPSIZE),
    scalar=True,
    compares_generations=False,
    informed=True,
    integers=False,
    categories=False,
    min_dimensions=2,
)
