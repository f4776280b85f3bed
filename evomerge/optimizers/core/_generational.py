"""Generations without a barrier, for optimizers that learn from a whole generation at once.

Each point is drawn when it is requested, from the current distribution; a generation is learned from when the last of
its answers has come. An idle worker never waits: when all points of generation g have been proposed, the next ask opens
generation g+1. Generations may therefore overlap, and be learned from in another order than they were opened.

Drawing late matters: a generation drawn as a whole at its first ask lacks what the one before it taught. Measured with
cma on a 12-dimensional sphere, 600 candidates, log10 of the mean's error: drawn whole -2.9 with 4 workers and -2.4 with
16; drawn late -4.1 and -3.6; one worker -3.6.

With many workers, most points are drawn before the answers that they should have learned from. How many workers there
are is seen from the proposals that are unanswered, so that it need not be said, may change, and is the same when the
calls are repeated. When these are two generations and more, the next generation is as large as they are (`widen`),
and a quadratic fitted to all answers (`_quadratic.py`) learns what ranks of so few generations cannot: its optimum is
proposed once in a generation, and is the mean.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from evomerge.optimizers.core._domain import Vector, VectorCodec
from evomerge.optimizers.core._pending import PendingProposals
from evomerge.optimizers.core._protocol import Proposal
from evomerge.optimizers.core._quadratic import QuadraticModel
from evomerge.records import Domain, Point

WIDE = 2  # generations that are unanswered, from which on there are many workers
MEAN_GENERATIONS = 8  # generations between two proposals of the mean itself
OUTSIDE = 0.5  # root mean square distance from the mean, in standard deviations, from which on a point lies outside
DECIMALS = 6  # of the model's optimum as it is proposed: how BLAS rounds must not show when calls are repeated


class Codec(Protocol):
    """Between points and a strategy's vectors."""

    def encode(self, point: Point) -> Vector:
        """Return the point as a vector."""

    def decode(self, vector: Vector) -> Point:
        """Return the nearest point of the domain."""


class EvolutionStrategy(Protocol):
    """A library's optimizer that learns from ranked generations."""

    @property
    def codec(self) -> Codec:
        """Between points and the strategy's vectors."""

    @property
    def size(self) -> int:
        """Number of points of a generation."""

    @property
    def epoch(self) -> int:
        """Number of restarts so far."""

    def draw(self) -> Vector:
        """Draw one point, as a vector of the codec, from the current distribution."""

    def learn(self, ranked: list[Vector]) -> None:
        """Update from a whole generation of this epoch, best first."""

    def mean(self) -> Point:
        """Return the mean of the distribution."""


@runtime_checkable
class WideningStrategy(EvolutionStrategy, Protocol):
    """A strategy whose population can follow the number of workers."""

    @property
    def codec(self) -> VectorCodec:
        """Between points and the strategy's vectors."""

    def widen(self, size: int) -> bool:
        """Go on with a larger population from the same distribution, as a new epoch.

        Args:
            size: points of a generation from now on.

        Returns:
            False if the population must stay what it is, as the user has set it.
        """

    def follow(self, vector: Vector) -> None:
        """Go on around a point that is likely better, as a new epoch, if the distribution does not reach it.

        Args:
            vector: (codec.size,) inside the domain.
        """


class _Generation:
    """The proposals of one generation, and the answers so far."""

    def __init__(self, number: int, strategy: EvolutionStrategy, center: Point | None = None) -> None:
        """Begin a generation.

        Args:
            number: of the generation.
            strategy: that draws it.
            center: what it begins with besides, to be scored; to learn from it would look like a small step.
        """
        self.number = number
        self.epoch = strategy.epoch
        self.center = center
        self.apart = int(center is not None)
        self.size = strategy.size + self.apart
        self.vectors: list[Vector] = []
        self.answers: dict[int, float | None] = {}

    def ranked(self) -> list[Vector] | None:
        """Vectors from best to worst, or None if more than half of the generation could not be scored.

        Candidates without a score come after every scored one, whatever the scale of the scores; ties go by number,
        which is random because the points were drawn independently. An invented penalty would change the ranking's
        meaning with the scale, and a generation of mostly failures would teach noise.
        """
        answers, drawn = self.answers, range(self.apart, self.size)
        if 2 * sum(answers[position] is None for position in drawn) > len(drawn):
            return None
        order = sorted(drawn, key=lambda p: (answers[p] is None, -(answers[p] or 0.0), p))
        return [self.vectors[position] for position in order]


class GenerationalOptimizer:
    """A scalar Optimizer around a strategy. See the module's docstring for what a generation is here."""

    objectives = 1

    def __init__(self, name: str, domain: Domain, strategy: EvolutionStrategy) -> None:
        self.name = name
        self._strategy = strategy
        self._pending = PendingProposals(domain, objectives=1)
        self._current: _Generation | None = None
        self._open: dict[int, tuple[_Generation, int]] = {}
        self._model: QuadraticModel | None = None  # where a model of all answers may be of use
        if isinstance(strategy, WideningStrategy) and not strategy.codec.levels:
            self._model = QuadraticModel(strategy.codec.size)
        self._wide = False

    @property
    def generation_size(self) -> int:
        """Number of proposals in the current generation. A restart cuts its generation short."""
        return self._current.size if self._current else self._strategy.size

    def ask(self) -> Proposal:
        """Return the next point of the current generation, opening a new one when it is used up.

        An injected point takes the place of a drawn one, so that it is learned from with the generation it is in.
        """
        generation = self._generation()
        point = generation.center if not generation.vectors else None
        point = point or self._pending.next_injected()
        vector = self._strategy.draw() if point is None else self._strategy.codec.encode(point)
        proposal = self._pending.propose(generation.number, point or self._strategy.codec.decode(vector))
        self._open[proposal.number] = (generation, len(generation.vectors))
        generation.vectors.append(vector)
        return proposal

    def _generation(self) -> _Generation:
        current = self._current
        if current is None:
            self._current = _Generation(0, self._strategy)
        elif len(current.vectors) == current.size or current.epoch != self._strategy.epoch:
            unanswered = len(self._open)
            if unanswered >= WIDE * self._strategy.size and isinstance(self._strategy, WideningStrategy):
                self._wide = self._strategy.widen(unanswered) or self._wide
            center = None if self._pending.has_injected else self._center(current.number + 1)
            self._current = _Generation(current.number + 1, self._strategy, center)
        assert self._current is not None
        return self._current

    def _center(self, number: int) -> Point | None:
        """Return what a generation begins with: the model's optimum, now and then the mean, else None."""
        best = self._model_optimum()
        if best is not None:
            assert isinstance(self._strategy, WideningStrategy)
            self._strategy.follow(best)
            return self._strategy.codec.decode(np.round(best, DECIMALS))
        return self._strategy.mean() if number % MEAN_GENERATIONS == MEAN_GENERATIONS - 1 else None

    def _model_optimum(self) -> Vector | None:
        """Return the optimum of the model where there are many workers, and no integers."""
        return self._model.optimum() if self._wide and self._model is not None else None

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal; the generation is learned from with its last answer, or dropped if most of it failed.

        Answers to generations from before a restart are taken and not learned from.
        """
        values = self._pending.close(number, values)
        generation, position = self._open.pop(number)
        generation.answers[position] = None if values is None else values[0]
        if values is not None and self._model is not None:
            self._model.add(generation.number, generation.vectors[position], values[0])
        if len(generation.answers) == generation.size and generation.epoch == self._strategy.epoch:
            ranked = generation.ranked()
            if ranked is not None:
                self._strategy.learn(ranked)

    @property
    def spread(self) -> float | None:
        """Mean standard deviation of what is drawn, where the strategy says it."""
        return getattr(self._strategy, "spread", None)

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return the mean of the distribution, or where a model of all answers sees the optimum."""
        best = self._model_optimum()
        return self._strategy.mean() if best is None else self._strategy.codec.decode(best)
