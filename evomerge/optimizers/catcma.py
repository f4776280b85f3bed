"""CatCMA with margin by cmaes (Hamano 2025, https://arxiv.org/abs/2504.07884): reals, integers and choices at once.

Reals and integers share one Gaussian, each choice has a distribution of its own, and both learn from the same ranks.
Margins keep every level and every option possible, so that an integer or a choice that has settled can be left again.

Decisions that cmaes leaves open:
- It receives ranks, as in `cma.py`, and the samples as they were drawn: a real outside its bounds, or a coordinate that
  changed nothing (the gain of a block that the stack leaves out), counts as sampled and moves the distribution nowhere
  on average.
- Integers of two levels are choices: one bit has no scale that could be adapted.
- With a start, each choice begins there with the probability that lets `FIRST_CHANGES` of all choices differ from it in
  an average sample. From equal probabilities, a stack of many positions would begin with models that say nothing.
- It restarts at its mean with twice the population when nothing moves any more: all standard deviations below `tolx`,
  and all choices within their margins.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.optimizers.core import (
    BEGIN,
    POPSIZE,
    SIGMA0,
    GenerationalOptimizer,
    OptimizerSpec,
    OptionSpec,
    Vector,
    center,
)
from evomerge.records import Domain, Point

if TYPE_CHECKING:
    from cmaes import CatCMAwM

FIRST_CHANGES = 3.0  # choices that differ from the start in an average sample of the first generation
LEAST_FIRST_SHARE = 0.55  # first probability that the start's option has at least: more than half, to be the mean
SETTLED = 1e-6  # a choice has settled when its best option is this near to what the margins leave


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedCodec:
    """Point <-> vector for CatCMA: reals, then integers of three or more levels, then choices, as option numbers.

    Integers of two levels are choices. Integers and choices of one value are left out.

    Attributes:
        domain: of the points.
    """

    domain: Domain

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the integers that stay integers."""
        return tuple(count for count in self.domain.integers if count > 2)

    @property
    def options(self) -> tuple[int, ...]:
        """Options of the choices: first the integers of two levels, then the domain's categories."""
        bits = tuple(count for count in self.domain.integers if count == 2)
        return bits + tuple(count for count in self.domain.categories if count > 1)

    @property
    def numbers(self) -> int:
        """Coordinates of the Gaussian: reals and integers."""
        return self.domain.reals + len(self.levels)

    def encode(self, point: Point) -> Vector:
        """Return the point as a vector of shape (numbers + choices,)."""
        integers = list(zip(point.integers, self.domain.integers, strict=True))
        categories = zip(point.categories, self.domain.categories, strict=True)
        wide = [value for value, count in integers if count > 2]
        bits = [value for value, count in integers if count == 2]
        return np.array([*point.reals, *wide, *bits, *(v for v, count in categories if count > 1)], dtype=np.float64)

    def decode(self, vector: Vector) -> Point:
        """Return the nearest point of the domain.

        Args:
            vector: shape (numbers + choices,), finite; may lie outside the domain.
        """
        reals = np.clip(vector[: self.domain.reals], 0.0, 1.0)
        wide, choices = iter(vector[self.domain.reals : self.numbers]), iter(vector[self.numbers :])
        integers = []
        for count in self.domain.integers:
            value = 0.0 if count < 2 else next(choices) if count == 2 else float(next(wide))
            # cmaes' rule for a value half-way between two levels: the lower one
            integers.append(min(max(math.ceil(value - 0.5), 0), count - 1))
        categories = (int(next(choices)) if count > 1 else 0 for count in self.domain.categories)
        return Point(reals=tuple(float(v) for v in reals), integers=tuple(integers), categories=tuple(categories))


class CatcmaStrategy:
    """One CatCMAwM instance and its restarts."""

    def __init__(self, domain: Domain, seed: int, start: Point | None, options: Mapping[str, Any]) -> None:
        """Start a distribution.

        Args:
            domain: of the points.
            seed: of every draw.
            start: the first mean; None: the middle, and equal probabilities of all options.
            options: every option of `CATCMA`.
        """
        self.codec = MixedCodec(domain=domain)
        self._options = dict(options)
        self._seeds = np.random.SeedSequence(seed)
        self.epoch = 0
        self._es = self._new(start, options["popsize"])
        self._converged: Point | None = None

    def _new(self, start: Point | None, popsize: int | None) -> "CatCMAwM":
        from cmaes import CatCMAwM

        codec = self.codec
        mean = codec.encode(start or center(codec.domain))
        numbers, sigma0 = codec.numbers, self._options["sigma0"]
        widths = np.array([1.0] * codec.domain.reals + [float(count) for count in codec.levels])
        gaussian = {"mean": mean[:numbers].copy(), "sigma": 1.0, "cov": np.diag((sigma0 * widths) ** 2)}
        return CatCMAwM(
            x_space=[[0.0, 1.0]] * codec.domain.reals or None,
            z_space=[list(range(count)) for count in codec.levels] or None,
            c_space=list(codec.options) or None,
            population_size=popsize,
            cat_param=self._first_shares(None if start is None else mean[numbers:]) if codec.options else None,
            seed=int(self._seeds.spawn(1)[0].generate_state(1)[0]),
            **(gaussian if numbers else {}),
        )

    def _first_shares(self, start: Vector | None) -> Vector:
        """Return the first probabilities of each choice's options, (choices, most options), zeros at the end."""
        options = self.codec.options
        shares = np.zeros((len(options), max(options)))
        changed = min(FIRST_CHANGES / len(options), 1 - LEAST_FIRST_SHARE)
        for row, count in enumerate(options):
            shares[row, :count] = 1 / count if start is None else changed / (count - 1)
            if start is not None:
                shares[row, int(start[row])] = 1 - changed
        return shares

    @property
    def size(self) -> int:
        """The population size of cmaes."""
        return self._es.population_size

    def draw(self) -> Vector:
        """Sample one point: the Gaussian's numbers as they were drawn, and an option of each choice."""
        solution = self._es.ask()
        numbers = [] if solution._v_raw is None else solution._v_raw
        choices = [] if solution.c is None else np.argmax(solution.c, axis=1)
        return np.concatenate([numbers, choices]).astype(np.float64)

    def learn(self, ranked: list[Vector]) -> None:
        """Tell the ranks of a whole generation; cmaes takes no less. Restart when nothing moves any more."""
        self._es.tell([(self._solution(vector), float(rank)) for rank, vector in enumerate(ranked)])
        if self._settled():
            self._converged = self._current_mean()
            self._es = self._new(self._converged, 2 * self.size)
            self.epoch += 1

    def _solution(self, vector: Vector) -> "CatCMAwM.Solution":
        numbers, options = self.codec.numbers, self.codec.options
        one_hot = np.zeros((len(options), max(options, default=0)), dtype=bool)
        one_hot[np.arange(len(options)), vector[numbers:].astype(int)] = True
        return self._es.Solution(c=one_hot if options else None, _v_raw=vector[:numbers].copy() if numbers else None)

    def _settled(self) -> bool:
        """Whether nothing moves any more, or cmaes finds its own geometry exhausted."""
        es, codec = self._es, self.codec
        if codec.numbers:
            deviations = es._sigma * np.sqrt(np.diag(es._C))[: codec.domain.reals]
            if not np.isfinite(deviations).all() or es.should_stop():
                return True
            if np.any(deviations > self._options["tolx"]) or (codec.levels and np.any(es._pmut > 1.01 * es._alpha)):
                return False
        if not codec.options:
            return True
        best = es._q.max(axis=1)
        return not np.isfinite(best).all() or bool(np.all(best >= 1 - es._qmin * (es._K - 1) - SETTLED))

    def _current_mean(self) -> Point:
        codec = self.codec
        numbers = self._es._mean if codec.numbers else []
        choices = np.argmax(self._es._q, axis=1) if codec.options else []
        return codec.decode(np.nan_to_num(np.concatenate([numbers, choices]).astype(np.float64), nan=0.5))

    def mean(self) -> Point:
        """Return the last converged mean, or else the current one: inside the bounds, with the likeliest options."""
        return self._converged or self._current_mean()


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> GenerationalOptimizer:
    """Build `catcma`; `start` is the first mean."""
    return GenerationalOptimizer(CATCMA.name, domain, CatcmaStrategy(domain, seed, start, options))


CATCMA = OptimizerSpec(
    name="catcma",
    description="CatCMA with margin (cmaes): reals, integers and choices together; weighted mean of the objectives",
    create=create,
    options=(
        BEGIN,
        SIGMA0,
        POPSIZE,
        OptionSpec(
            name="tolx", kind=float, default=1e-4, low=0.0, high=1.0, description="restart below this step size"
        ),
    ),
    scalar=True,
    compares_generations=False,
    informed=True,
    min_dimensions=2,
)
