"""LRA-CMA-ES by cmaes (Nomura 2023, https://arxiv.org/abs/2304.03473): smaller steps where the signal is noise.

The learning rate of mean and covariance follows the signal-to-noise ratio of their updates, which saves the larger
population that noisy or multimodal objectives otherwise need. Real coordinates only.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.optimizers.core import POPSIZE, SIGMA0, GenerationalOptimizer, OptimizerSpec, Vector, VectorCodec, center
from evomerge.records import Domain, Point

if TYPE_CHECKING:
    from cmaes import CMA


class CmaesStrategy:
    """One cmaes instance and its restarts: at its mean, with twice the population, as in `cma.py`."""

    def __init__(self, domain: Domain, seed: int, start: Point | None, options: Mapping[str, Any]) -> None:
        self.codec = VectorCodec(domain=domain)
        self._sigma0 = options["sigma0"]
        self._seeds = np.random.SeedSequence(seed)
        self.epoch = 0
        self._es = self._new(self.codec.encode(start or center(domain)), options["popsize"])
        self._converged: Point | None = None

    def _new(self, mean: Vector, popsize: int | None) -> "CMA":
        from cmaes import CMA

        return CMA(
            mean=mean.copy(),
            sigma=self._sigma0,
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
    options=(SIGMA0, POPSIZE),
    scalar=True,
    compares_generations=False,
    integers=False,
    categories=False,
    min_dimensions=2,
)
