"""Coarse to fine: an optimizer for each level of a space, each begun where the last one ended.

All points are points of the whole space. At a level, the optimizer moves few numbers z around the point x0 that the
last level ended at: x = x0 + W (z - z0), clipped to the unit cube, with the level's weights W and z0 the numbers that
stand for x0 best. At z0 that is x0 itself, whatever its form, so that nothing is lost from one level to the next.
Gradients by x become gradients by z through W.

Gradients by x also say what a level can gain at all: the inner products of gradients on different items estimate the
square of the true one, within the level's directions and in all. A level whose directions hold less than half of it
is left for the first one that holds more.

A level ends when following gradients has ended there, when the moves of the mean point nowhere together any longer
(see `guided`), or when its share of the planned candidates is spent; the last one goes on for good.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.optimizers.core import GradientOptimizer, Optimizer, PendingProposals, Proposal, Vector
from evomerge.records import Domain, Level, Point

SHARE = 0.4  # of the planned candidates, for all levels but the last together
MIN_STEPS, MAX_STEPS = 8, 16  # of an ascent at a level but the last: with Adam's rate, the way through the whole range
MIN_GENERATIONS = 4  # of an evolution at a level
MIN_GRADIENTS = 4  # with which it can be said what a level's directions hold
MIN_HELD = 0.5  # of the squared gradient, for a level to be stayed at
WINDOW_GENERATIONS = 6  # moves of the mean whose agreement decides
DECIMALS = 9  # of a coordinate, far below the grid of spaces: how BLAS rounds must not show when calls are repeated
ROUNDING = 1e-8  # by which a point may differ from the level's own

_Matrix = npt.NDArray[np.float64]

CreateLevel = Callable[[int, Domain, Point, float | None], Optimizer]
"""Creates the optimizer of a level: number of the level, its domain, where it starts, and the spread it starts with."""


class _Asked(NamedTuple):
    """A proposal of the level's optimizer.

    Attributes:
        number: that the level's optimizer knows it by.
        inside: (reals,) which coordinates moved freely: those that were not clipped.
    """

    number: int
    inside: Vector


class LevelOptimizer:
    """One optimizer after the other. See the module's docstring.

    Attributes:
        name: of the optimizers.
        objectives: values that an answer has.
        level: number of the current level.
    """

    def __init__(
        self, domain: Domain, levels: Sequence[Level], create: CreateLevel, *, start: Point, planned: int
    ) -> None:
        """Begin at the first level.

        Args:
            domain: of the points; reals alone.
            levels: at least one.
            create: of a level's optimizer.
            start: a point of the domain.
            planned: candidates of the whole search, about.
        """
        self._domain, self._levels, self._create = domain, levels, create
        self._planned = planned
        self._pending = PendingProposals(domain, objectives=1)
        self._center = np.array(start.reals, dtype=np.float64)
        self._ascent_mean: Point | None = None
        self._generation = self._first_generation = 0
        self._begin(0, None)
        self.name, self.objectives = self._inner.name, self._inner.objectives

    def _begin(self, level: int, spread: float | None) -> None:
        self.level = level
        self._weights: _Matrix = np.array(self._levels[level].weights)
        fitted = np.linalg.lstsq(self._weights, self._center, rcond=None)[0]
        self._origin: Vector = np.clip(np.round(fitted, DECIMALS), 0.0, 1.0)
        self._inner = self._create(level, Domain(reals=len(self._origin)), _point(self._origin), spread)
        self._asked: dict[int, _Asked] = {}
        self._answered = self._in_generation = 0
        self._means: deque[Vector] = deque(maxlen=WINDOW_GENERATIONS + 1)
        self._gradients: list[Vector] = []
        self._ended = False
        self._next = level + 1

    @property
    def level_name(self) -> str:
        """The current level's name for people."""
        return self._levels[self.level].name

    @property
    def level_size(self) -> int:
        """How many numbers the current level varies."""
        return self._levels[self.level].size

    # -- between the level and the space

    def _embedded(self, numbers: Sequence[float]) -> Vector:
        moved = self._center + self._weights @ (np.array(numbers) - self._origin)
        return np.asarray(np.round(np.clip(moved, 0.0, 1.0), DECIMALS), dtype=np.float64)

    def _numbers(self, point: Point) -> Vector:
        """Return the level's numbers that come nearest to a point of the space."""
        moved = np.linalg.lstsq(self._weights, np.array(point.reals) - self._center, rcond=None)[0]
        return np.clip(self._origin + moved, 0.0, 1.0)

    # -- the optimizer

    @property
    def generation_size(self) -> int:
        """Number of proposals that share an item subset."""
        return self._inner.generation_size

    def ask(self) -> Proposal:
        """Return the next point of the level, or of the next level where this one has ended."""
        if self._ended and self._in_generation >= self._inner.generation_size:
            self._next_level()
        injected = self._pending.next_injected()
        if injected is not None:
            self._inner.inject([_point(self._numbers(injected))])
        inner = self._inner.ask()
        point = injected or _point(self._embedded(inner.point.reals))
        generation = self._first_generation + inner.generation
        self._in_generation = self._in_generation + 1 if generation == self._generation else 1
        self._generation = generation
        own = self._embedded(inner.point.reals)
        gradient = inner.gradient and bool(np.abs(own - np.array(point.reals)).max() <= ROUNDING)
        proposal = self._pending.propose(generation, point, gradient=gradient)
        free = self._center + self._weights @ (np.array(inner.point.reals) - self._origin)
        self._asked[proposal.number] = _Asked(
            inner.number, np.asarray(np.abs(free - own) <= ROUNDING, dtype=np.float64)
        )
        return proposal

    def tell_gradient(self, number: int, gradient: Sequence[float]) -> None:
        """Take the gradient of an open proposal's value; its `tell` follows.

        Args:
            number: of the proposal.
            gradient: (reals,) derivative by each real coordinate of the space; not finite where it is unknown.

        Raises:
            InvalidInput: unknown or already answered number, or another length.
        """
        self._pending.check_open(number)
        found = np.asarray(gradient, dtype=np.float64)
        if found.shape != self._center.shape:
            raise InvalidInput(
                f"proposal {number} got a gradient of shape {found.shape}, expected {self._center.shape}"
            )
        asked = self._asked.get(number)
        if asked is not None and isinstance(self._inner, GradientOptimizer):
            found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
            self._gradients.append(found)
            found = found * asked.inside
            self._inner.tell_gradient(asked.number, [float(value) for value in self._weights.T @ found])

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal; the answers of earlier levels come too late to teach."""
        values = self._pending.close(number, values)
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        self._inner.tell(asked.number, values)
        self._answered += 1
        if self.level + 1 < len(self._levels):
            self._ended = self._ended or self._has_ended()

    def _has_ended(self) -> bool:
        share = SHARE * self._planned / (len(self._levels) - 1)
        size = self._inner.generation_size
        if isinstance(self._inner, GradientOptimizer):
            if self._inner.ascent_mean() is not None:
                return True
            if len(self._gradients) >= MIN_GRADIENTS and self._holds_little():
                return True
            if size == 1:
                return self._answered >= min(MAX_STEPS, max(MIN_STEPS, share))
        if self._answered >= max(MIN_GENERATIONS * size, share):
            return True
        return self._answered % size == 0 and self._circles()

    def _holds_little(self) -> bool:
        """Tell whether most of the gradient lies outside of the level, and find the first level that holds it."""
        position = self._embedded(self._inner_mean())
        gradients = np.array(self._gradients)
        slope = gradients.mean(axis=0)
        blocked = (slope < 0) & (position <= ROUNDING) | (slope > 0) & (position >= 1 - ROUNDING)
        total = _squared(gradients[:, ~blocked])
        if total <= 0:
            return False
        held = [
            _squared(gradients @ _movable(np.array(level.weights), position, slope)) / total for level in self._levels
        ]
        finer = range(self.level + 1, len(self._levels))
        self._next = next((level for level in finer if held[level] >= MIN_HELD), len(self._levels) - 1)
        return held[self.level] < MIN_HELD

    def _circles(self) -> bool:
        """Note where the mean is after another generation; tell whether its last moves point nowhere together."""
        mean = self._inner.mean()
        if mean is None:
            return False
        self._means.append(np.array(mean.reals))
        if len(self._means) <= WINDOW_GENERATIONS:
            return False
        moves = np.diff(np.array(self._means), axis=0)
        lengths = np.linalg.norm(moves, axis=1)
        products = np.sum(moves[1:] * moves[:-1], axis=1)
        return bool(np.sum(products / np.maximum(lengths[1:] * lengths[:-1], 1e-300)) <= 0)

    def _next_level(self) -> None:
        self._ascent_mean = self.ascent_mean()
        spread = getattr(self._inner, "spread", None)
        self._center = self._embedded(self._inner_mean())
        self._first_generation = self._generation + 1
        self._begin(self._next, None if spread is None else float(spread))

    def _inner_mean(self) -> Sequence[float]:
        mean = self._inner.mean()
        return self._origin.tolist() if mean is None else mean.reals

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return the mean of the level's distribution, as a point of the space."""
        mean = self._inner.mean()
        return None if mean is None else _point(self._embedded(mean.reals))

    def ascent_mean(self) -> Point | None:
        """Return where following gradients has ended, at this level or else an earlier one."""
        ended = self._inner.ascent_mean() if isinstance(self._inner, GradientOptimizer) else None
        return self._ascent_mean if ended is None else _point(self._embedded(ended.reals))


def _point(reals: Vector) -> Point:
    return Point(reals=tuple(float(value) for value in reals))


def _movable(weights: _Matrix, position: Vector, slope: Vector) -> _Matrix:
    """Return orthonormal directions that the columns of weights span, without those that lead out of the cube."""
    slopes = weights.T @ slope
    lowest = np.array([position[column > 0].max(initial=0.0) for column in weights.T])
    highest = np.array([position[column > 0].min(initial=1.0) for column in weights.T])
    free = ~((slopes < 0) & (lowest <= ROUNDING) | (slopes > 0) & (highest >= 1 - ROUNDING))
    return np.asarray(np.linalg.qr(weights[:, free])[0])


def _squared(along: _Matrix) -> float:
    """Return the squared length of the true gradient by products of different ones, (gradients, directions)."""
    total = float(np.sum(along.sum(axis=0) ** 2)) - float(np.sum(along**2))
    return total / (len(along) * (len(along) - 1))
