"""CMA-ES by pycma (Hansen 2016, https://arxiv.org/abs/1604.00772), free of its clock, global state and printing.

Decisions that pycma leaves open:
- It receives ranks, never values: CMA-ES uses nothing else, and ranks with ties broken by number need no penalty for
  failures, cannot be flat, and do not depend on how a CPU's sort treats ties.
- It converges when every standard deviation is below `tolx` (steps that spaces round away), or when pycma finds its own
  geometry exhausted. It then restarts at its mean with sigma0 and twice the population (IPOP, Auger & Hansen 2005, but
  from the mean: where scores are noisy, a larger population at the same place is the remedy).
- Integers are rounded here, and their standard deviation is kept from vanishing (the lower bound of Marty et al. 2024,
  which does most of the work there). pycma's own `integer_variables` draws from numpy's global state and forgets every
  generation but the one it receives, so that it can neither be replayed nor overlap.
- mean() stays that of the last converged distribution until the restarted one has converged too: a restart begins wide,
  and its first means are far worse than what was already found (24 coordinates: by four orders of magnitude).
"""

import math
import warnings
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
    OptionSpec,
    Vector,
    VectorCodec,
    center,
)
from evomerge.records import Domain, Point

if TYPE_CHECKING:
    import cma

_MIN_INTEGER_STD = 0.2  # in levels: with less, an integer coordinate never leaves its level again


class _Normal:
    """pycma's `randn` from a private stream; by default pycma draws from numpy's global one."""

    def __init__(self, seed: int) -> None:
        # RandomState's stream is frozen by numpy's policy (NEP 19), a Generator's is not: trajectories must not move.
        self._random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))

    def __call__(self, *shape: int) -> Vector:
        return self._random.randn(*shape)


class PycmaStrategy:
    """One pycma instance and its restarts."""

    def __init__(
        self,
        domain: Domain,
        seed: int,
        start: Point | None,
        options: Mapping[str, Any],
        deviations: Vector | None = None,
    ) -> None:
        """Start a distribution.

        Args:
            domain: without categories.
            seed: of every draw.
            start: the first mean; None: the middle.
            options: every option of `CMA`.
            deviations: (domain.reals,) first standard deviations of the reals in units of sigma0; None: all equal.
        """
        self._deviations = [1.0] * domain.reals if deviations is None else [float(value) for value in deviations]
        self.codec = VectorCodec(domain=domain)
        self._options = dict(options)
        self._normal = _Normal(seed)
        self.epoch = 0
        self._es = self._new(self.codec.encode(start or center(domain)), options["popsize"])
        self._asked = False
        self._converged: Point | None = None

    def _new(self, x0: Vector, popsize: int | None) -> "cma.CMAEvolutionStrategy":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cma warns at import that matplotlib is missing; nothing here plots
            import cma
            from cma.sigma_adaptation import CMAAdaptSigmaCSA

        reals, levels = self.codec.domain.reals, self.codec.levels
        settings: dict[str, Any] = {
            # integers get half a level on either side, so that their outer levels are as wide as the others
            "bounds": [[0.0] * reals + [-0.5] * len(levels), [1.0] * reals + [n - 0.5 for n in levels]],
            "CMA_stds": self._deviations + [float(n) for n in levels],
            "CMA_diagonal": self._options["diagonal"],
            # both tie samples of a generation to each other, which one by one, overlapping and injected cannot be:
            # two-point adaptation (pycma's choice from 300 dimensions on) and mirrored samples (below popsize 6)
            "AdaptSigma": CMAAdaptSigmaCSA,
            "CMA_mirrors": 0,
            "seed": np.nan,  # "do nothing": any number would seed numpy's global state
            "randn": self._normal,
            "tolx": self._options["tolx"],
            # criteria on values mean nothing for ranks
            "tolfunhist": 0,
            "tolstagnation": 0,
            "maxiter": np.inf,
            "verbose": -10,  # prints nothing, and reads no signals file from the working directory
            "verb_log": 0,
            "verb_disp": 0,
        }
        if popsize is not None:
            settings["popsize"] = popsize
        es = cma.CMAEvolutionStrategy(x0, self._options["sigma0"], settings)
        if levels:
            least = min(_MIN_INTEGER_STD, es.sp.weights.mueff / self.codec.size)
            es.opts.set("minstd", np.array([0.0] * reals + [least] * len(levels)))
        return es

    @property
    def size(self) -> int:
        """pycma's population size."""
        return int(self._es.popsize)

    def draw(self) -> Vector:
        """Sample one point."""
        self._asked = True
        return self._es.ask(1)[0]

    def learn(self, ranked: list[Vector]) -> None:
        """Tell pycma the ranks of a generation; restart when it has converged."""
        if not self._asked:
            self._es.ask(1)  # pycma wants an ask between two tells; overlapping generations need not have one
        # copies, because tell may change them in place; pycma finds its own samples by value
        self._es.tell([vector.copy() for vector in ranked], [float(rank) for rank in range(len(ranked))])
        self._asked = False
        if self._es.stop():
            self._converged = self._current_mean()
            self._es = self._new(self.codec.encode(self._converged), 2 * self.size)
            self.epoch += 1

    @property
    def spread(self) -> float:
        """Mean standard deviation of the coordinates."""
        return float(np.mean(self._es.stds))

    def widen(self, size: int) -> bool:
        """Go on with a larger population: the same mean and standard deviations, without their correlations."""
        if self._options["popsize"] is not None:
            return False
        self._go_on(self._current_mean(), size)
        return True

    def follow(self, vector: Vector) -> None:
        """Go on around a point, if it lies outside of where most points are drawn."""
        mean = self._current_mean()
        if np.linalg.norm((vector - self.codec.encode(mean)) / self._es.stds) > OUTSIDE * math.sqrt(self.codec.size):
            self._go_on(self.codec.decode(vector), self.size)

    def _go_on(self, mean: Point, size: int) -> None:
        deviations = self._es.stds[: self.codec.domain.reals] / self._options["sigma0"]
        self._deviations = [float(value) for value in deviations]
        self._es = self._new(self.codec.encode(mean), size)
        self.epoch += 1

    def _current_mean(self) -> Point:
        return self.codec.decode(self._es.result.xfavorite)

    def mean(self) -> Point:
        """Return the last converged mean, or else the current one; inside the bounds, integers rounded."""
        return self._converged or self._current_mean()


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> GenerationalOptimizer:
    """Build `cma`; `start` is the first mean."""
    return GenerationalOptimizer(CMA.name, domain, PycmaStrategy(domain, seed, start, options))


CMA = OptimizerSpec(
    name="cma",
    description="CMA-ES (pycma): weights and densities, without gradients; weighted mean of the objectives",
    create=create,
    options=(
        BEGIN,
        SIGMA0,
        POPSIZE,
        OptionSpec(
            name="tolx", kind=float, default=1e-5, low=0.0, high=1.0, description="restart below this step size"
        ),
        OptionSpec(
            name="diagonal",
            kind=bool,
            default=False,
            description="adapt each coordinate by itself; learns faster with hundreds of them",
        ),
    ),
    scalar=True,
    compares_generations=False,
    informed=True,
    categories=False,
    min_dimensions=2,
)
