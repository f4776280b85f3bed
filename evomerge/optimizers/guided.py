"""Gradient-informed evolution: Adam on the gene gradients, then CMA-ES from where that ended.

*Ascent.* While proposals come back with a gradient, each ask proposes the current iterate, on items of its own, and
each answer is one step of Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980), projected into the unit cube. With
several workers an answer may belong to an earlier iterate; its step is then divided by half its age (Zhang 2016,
https://arxiv.org/abs/1511.05950). The rate is halved whenever successive gradients stop agreeing: where the iterates
circle around an optimum, their mean cosine over a window is not above 0 (Pflug 1990, the sign of the inner product as a
test of stationarity). After some halvings, or `steps` steps, the ascent ends.

*Evolution.* CMA-ES (`cma`) starts at the mean of the last iterates. Its standard deviations are those of the last
iterates along each coordinate, made wider where the gradients were small. It decides everything that gradients do not
say: densities, integers, metrics that are not the log-likelihood of the gold answers, floors.

An answer without a gradient ends the ascent, and a search without any gradient is CMA-ES from the start point.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.errors import InvalidInput
from evomerge.optimizers.cma import CMA, PycmaStrategy
from evomerge.optimizers.core import (
    BEGIN,
    POPSIZE,
    GenerationalOptimizer,
    OptimizerSpec,
    OptionSpec,
    PendingProposals,
    Proposal,
    Vector,
    VectorCodec,
    center,
)
from evomerge.records import Domain, Point

BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-12  # Adam; beta_2 forgets within the hundred steps that an ascent has
WINDOW_STEPS = 8  # gradients whose agreement decides on the rate
HALVINGS = 3  # of the rate, after which the ascent ends
FREE_AGE_STEPS = 2  # a gradient that is one step late is as good as a fresh one
MAX_FAILURES = 3  # in a row, after which the ascent ends
SPREAD = 3.0  # CMA-ES starts with standard deviations within this factor of sigma0


class GuidedOptimizer:
    """Adam while there are gradients, then CMA-ES. See the module's docstring."""

    name = "guided"
    objectives = 1

    def __init__(self, domain: Domain, seed: int, start: Point | None, options: Mapping[str, Any]) -> None:
        self._domain, self._seed, self._options = domain, seed, options
        self._codec = VectorCodec(domain=domain)
        self._pending = PendingProposals(domain, objectives=1)
        self._start = start or center(domain)
        self._iterate = np.array(self._start.reals, dtype=np.float64)
        self._ascent = _Adam(domain.reals, options["rate"], options["steps"])
        self._iterates: list[Vector] = [self._iterate.copy()]
        self._scored, self._failures = self._iterate, 0
        self._asked: dict[int, tuple[Point, int]] = {}  # proposal -> its point, and the steps made when it was asked
        self._gradients: dict[int, Vector] = {}
        self._evolution: GenerationalOptimizer | None = None
        self._ascent_mean: Point | None = None
        self._inner: dict[int, int] = {}  # proposal -> number that the evolution knows it by
        self._first_generation = 0
        if not domain.reals or self._ascent.ended:
            self._begin_evolution()

    @property
    def generation_size(self) -> int:
        """Number of proposals that share an item subset: 1 in the ascent."""
        return 1 if self._evolution is None else self._evolution.generation_size

    def ask(self) -> Proposal:
        """Return the iterate, or the next point of the evolution."""
        if self._evolution is not None:
            inner = self._evolution.ask()
            proposal = self._pending.propose(self._first_generation + inner.generation, inner.point)
            self._inner[proposal.number] = inner.number
            return proposal
        injected = self._pending.next_injected()
        point = injected or self._with_reals(self._iterate)
        # Every ask of the ascent sees items of its own: a generation each.
        proposal = self._pending.propose(self._pending.asked, point, gradient=injected is None)
        if injected is None:
            self._asked[proposal.number] = (point, self._ascent.steps)
        return proposal

    def tell_gradient(self, number: int, gradient: Sequence[float]) -> None:
        """Take the gradient of an open proposal's value; its `tell` follows.

        Args:
            number: of the proposal.
            gradient: (reals,) derivative by each real coordinate; not finite where it is unknown.

        Raises:
            InvalidInput: unknown or already answered number, or another length.
        """
        self._pending.check_open(number)
        found = np.asarray(gradient, dtype=np.float64)
        if found.shape != self._iterate.shape:
            raise InvalidInput(
                f"proposal {number} got a gradient of shape {found.shape}, expected {self._iterate.shape}"
            )
        self._gradients[number] = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal: a step of the ascent, or an answer for the evolution."""
        values = self._pending.close(number, values)
        gradient = self._gradients.pop(number, None)
        inner = self._inner.pop(number, None)
        if inner is not None:
            assert self._evolution is not None
            self._evolution.tell(inner, values)
        elif number in self._asked and self._evolution is None:
            point, age = self._asked.pop(number)
            self._step(point, values, gradient, age)

    def _step(self, point: Point, values: tuple[float, ...] | None, gradient: Vector | None, age: int) -> None:
        if values is None:  # no sane model there: half-way back to the last point that was scored
            self._failures += 1
            self._iterate = (self._iterate + self._scored) / 2
        elif gradient is None:
            self._begin_evolution()
            return
        else:
            self._failures, self._scored = 0, np.array(point.reals)
            self._iterate = np.clip(self._iterate + self._ascent.step(gradient, age), 0.0, 1.0)
        self._iterates.append(self._iterate.copy())
        if self._ascent.ended or self._failures == MAX_FAILURES:
            self._begin_evolution()

    def _average(self) -> Vector:
        """Return the mean of the last quarter of the iterates (Polyak & Juditsky 1992)."""
        return np.mean(self._iterates[-max(1, len(self._iterates) // 4) :], axis=0)

    def _with_reals(self, reals: Vector) -> Point:
        return Point(
            reals=tuple(float(value) for value in reals),
            integers=self._start.integers,
            categories=self._start.categories,
        )

    def _begin_evolution(self) -> None:
        """Start CMA-ES at the mean of the last iterates; what is left in the queue of injected points goes with it."""
        mean = self._with_reals(self._scored if self._failures else self._average())
        self._ascent_mean = mean if self._ascent.steps else None
        options = CMA.with_defaults({"sigma0": self._options["sigma0"]}) | {"popsize": self._options["popsize"]}
        deviations = None if len(self._iterates) <= WINDOW_STEPS else self._deviations()
        strategy = PycmaStrategy(self._domain, self._seed, mean, options, deviations)
        self._evolution = GenerationalOptimizer(self.name, self._domain, strategy)
        self._first_generation = self._pending.asked
        while (point := self._pending.next_injected()) is not None:
            self._evolution.inject([point])

    def _deviations(self) -> Vector:
        """Return the first standard deviation of each real coordinate, in units of sigma0, (reals,)."""
        steep = np.sqrt(self._ascent.squares) + EPSILON
        # Where the value answers strongly to a gene, small steps matter: the scale of a quasi-Newton step.
        relative = np.sqrt(np.exp(np.mean(np.log(steep))) / steep)
        return np.clip(relative, 1 / SPREAD, SPREAD)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        (self._pending if self._evolution is None else self._evolution).inject(points)

    @property
    def spread(self) -> float | None:
        """Mean standard deviation of what is proposed; None in the ascent, whose steps have a rate of their own."""
        return None if self._evolution is None else self._evolution.spread

    def ascent_mean(self) -> Point | None:
        """Return the mean of the last iterates of the ascent, once it has ended; None if it made no step."""
        return self._ascent_mean

    def mean(self) -> Point:
        """Return the mean of the last iterates, or that of the evolution."""
        if self._evolution is None:
            return self._with_reals(self._average())
        mean = self._evolution.mean()
        assert mean is not None
        return mean


class _Adam:
    """Adam's moments, and the rate that falls where gradients disagree."""

    def __init__(self, size: int, rate: float, max_steps: int) -> None:
        self.steps = self._halvings = 0
        self._first, self.squares = np.zeros(size), np.zeros(size)
        self._rate, self._max_steps = rate, max_steps
        self._last: Vector | None = None
        self._cosines: deque[float] = deque(maxlen=WINDOW_STEPS)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to gain by following gradients."""
        return self._halvings > HALVINGS or self.steps >= self._max_steps

    def step(self, gradient: Vector, asked_at: int) -> Vector:
        """Return the step for a gradient that was requested after `asked_at` steps, (size,)."""
        self.steps += 1
        age = self.steps - asked_at
        self._first = BETA_1 * self._first + (1 - BETA_1) * gradient
        self.squares = BETA_2 * self.squares + (1 - BETA_2) * gradient**2
        first = self._first / (1 - BETA_1**self.steps)
        scale = np.sqrt(self.squares / (1 - BETA_2**self.steps)) + EPSILON
        self._judge(gradient / scale)
        return self._rate / max(1.0, age / FREE_AGE_STEPS) * first / scale

    def _judge(self, gradient: Vector) -> None:
        """Halve the rate where the last gradients point nowhere together."""
        if self._last is not None:
            lengths = float(np.linalg.norm(gradient) * np.linalg.norm(self._last))
            self._cosines.append(float(gradient @ self._last) / lengths if lengths > 0 else 0.0)
        self._last = gradient
        if len(self._cosines) == WINDOW_STEPS and math.fsum(self._cosines) <= 0:
            self._rate /= 2
            self._halvings += 1
            self._cosines.clear()


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> GuidedOptimizer:
    """Build `guided`; `start` is the first iterate, or the first mean where there are no gradients."""
    return GuidedOptimizer(domain, seed, start, options)


GUIDED = OptimizerSpec(
    name="guided",
    description="Adam on gene gradients where tasks have gold answers, then CMA-ES: the default for weights",
    create=create,
    options=(
        BEGIN,
        OptionSpec(
            name="rate",
            kind=float,
            default=0.07,
            low=1e-5,
            high=1.0,
            description="step of the ascent; a range is 1 wide",
        ),
        OptionSpec(name="steps", kind=int, default=96, low=0, high=100_000, description="most steps of the ascent"),
        OptionSpec(
            name="sigma0", kind=float, default=0.12, low=1e-6, high=1.0, description="first step size of the evolution"
        ),
        POPSIZE,
    ),
    scalar=True,
    compares_generations=False,
    informed=True,
    gradients=True,
    categories=False,
    min_dimensions=2,
)
