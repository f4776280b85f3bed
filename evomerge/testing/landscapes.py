"""Landscapes: item scores with a planted optimum, on which searches and the statistics of claims can be tested fast.

Item i is answered right at a point x of the unit cube iff

    sqrt(rho) * z_i + sqrt(1 - rho) * g_i(x) + noise < skill(x)

z_i ~ N(0, 1) is how hard the item is, g_i a smooth random field of unit variance of its own (random Fourier
features, Rahimi & Recht 2007), and `skill` falls off as a quadratic around the planted optimum. The left side without
noise is N(0, 1) over items, so that the expected accuracy at x is Phi(skill(x)), whatever rho is. rho decides how much
two far-away points have in common: at 1 the better one gets all right that the other does, at 0 each item has a taste
of its own.

Pure numpy. The module must not import optimizers, runs or models.
"""

import math
import zlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.records import Domain, ItemScores, Point

START_ACCURACY, BEST_ACCURACY = 0.444, 0.635  # typical of a layer-wise search: far from both chance and certainty
MARGIN = (0.2, 0.8)  # each coordinate of the optimum lies in between
OPTION_DISTANCE = 0.2  # along a choice's axes: a wrong option costs what a real costs that is 0.28 from its optimum
SHARPNESS = 3.0  # of the soft scores, per unit of margin
PHI = NormalDist()

FloatArray = NDArray[np.float64]


class Landscape:
    """An item field with a planted optimum.

    Attributes:
        dimensions: coordinates of a point.
        search_items: how many items there are for the search: numbers 0 .. search_items - 1.
        held_out_items: how many there are besides, with the numbers that follow.
        rho: correlation of an item's difficulty between far-away points, 0 to 1.
        noise: standard deviation of what a repeated run would change, in units of the spread between items. The same
            point has the same noise every time, two points however near have nothing of it in common.
        optimum: (dimensions,) where the skill is highest.
        start: (dimensions,) the middle of the cube.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        seed: int,
        search_items: int = 1000,
        held_out_items: int = 2000,
        rho: float = 0.6,
        noise: float = 0.0,
        length: float = 1.0,
        features: int = 256,
        start_accuracy: float = START_ACCURACY,
        best_accuracy: float = BEST_ACCURACY,
    ):
        """Draw a landscape.

        Args:
            dimensions: coordinates of a point, 1 or more.
            seed: the only source of randomness; equal arguments give equal landscapes.
            search_items: items for the search.
            held_out_items: items that the search must not see.
            rho: share of an item's difficulty that is the same everywhere, 0 to 1.
            noise: standard deviation of the noise, 0 or more.
            length: over how far an item's own field changes, in units of a quarter of the cube's half diagonal; smaller
                is rougher.
            features: random Fourier features of the fields.
            start_accuracy: expected accuracy in the middle of the cube.
            best_accuracy: expected accuracy at the optimum, larger than that.
        """
        if dimensions < 1 or not 0.0 <= rho <= 1.0 or noise < 0.0 or not start_accuracy < best_accuracy:
            raise ValueError("expected dimensions >= 1, rho in 0..1, noise >= 0 and start_accuracy < best_accuracy")
        self.dimensions, self.search_items, self.held_out_items = dimensions, search_items, held_out_items
        self.rho, self.noise, self._seed = rho, noise, seed
        random = np.random.default_rng([seed, dimensions])
        self.optimum: FloatArray = random.uniform(*MARGIN, dimensions)
        self.start: FloatArray = np.full(dimensions, 0.5)
        self._frequencies = random.normal(size=(features, dimensions)) * 4.0 / (length * math.sqrt(dimensions))
        self._phases = random.uniform(0.0, 2 * math.pi, features)
        items = search_items + held_out_items
        self._amplitudes: FloatArray = random.normal(size=(items, features)) * math.sqrt(2 / features)
        self._difficulties: FloatArray = random.normal(size=items)
        scale = math.sqrt(1 + noise**2)
        self._top = scale * PHI.inv_cdf(best_accuracy)
        self._drop = self._top - scale * PHI.inv_cdf(start_accuracy)
        self._set_curvature()

    def move_optimum(self, optimum: Sequence[float] | FloatArray) -> None:
        """Plant the optimum elsewhere; the accuracies at the start and at the optimum stay what they are.

        Args:
            optimum: (dimensions,) another point than the start.
        """
        self.optimum = np.array(optimum, dtype=np.float64)
        self._set_curvature()

    def _set_curvature(self) -> None:
        """Make the skill fall from the optimum to the start by what lies between their accuracies."""
        self._curvature = self._drop / float(np.sum((self.start - self.optimum) ** 2))

    def skill(self, x: Sequence[float] | FloatArray) -> float:
        """Return the skill at a point: what the items' difficulties are compared with."""
        return self._top - self._curvature * float(np.sum((np.asarray(x) - self.optimum) ** 2))

    def accuracy(self, x: Sequence[float] | FloatArray) -> float:
        """Return the expected accuracy at a point over all items that could be drawn."""
        return PHI.cdf(self.skill(x) / math.sqrt(1 + self.noise**2))

    def margins(self, x: Sequence[float] | FloatArray, items: Sequence[int] | NDArray[Any] | None = None) -> FloatArray:
        """Return by how much a point's skill exceeds what each item asks for; above 0 = the answer is right.

        Args:
            x: (dimensions,) the point.
            items: numbers; None = all.
        """
        ids = np.arange(len(self._difficulties)) if items is None else np.asarray(items, dtype=np.intp)
        point = np.asarray(x, dtype=np.float64)
        asked = math.sqrt(self.rho) * self._difficulties[ids]
        asked += math.sqrt(1 - self.rho) * (self._amplitudes[ids] @ np.cos(self._frequencies @ point + self._phases))
        if self.noise:
            random = np.random.default_rng([self._seed, zlib.crc32(point.tobytes())])
            asked += self.noise * random.normal(size=len(self._difficulties))[ids]
        return np.asarray(self.skill(point) - asked)

    def item_scores(
        self, x: Sequence[float] | FloatArray, items: Sequence[int], *, soft: bool = False, sharpness: float = SHARPNESS
    ) -> ItemScores:
        """Return the scores of a point as an evaluator would.

        Args:
            x: (dimensions,) the point.
            items: numbers of the items.
            soft: with log(sigmoid(sharpness * margin)), like the log-likelihood of the right answer of two.
            sharpness: how fast an answer gets certain.
        """
        margins = self.margins(x, items)
        values = tuple(float(margin > 0) for margin in margins)
        graded = tuple(float(value) for value in -np.logaddexp(0.0, -sharpness * margins)) if soft else None
        return ItemScores(ids=tuple(int(item) for item in items), values=values, soft=graded)

    def held_out_accuracy(self, x: Sequence[float] | FloatArray) -> float:
        """Return the share of the held-out items that a point gets right."""
        return float(np.mean(self.margins(x, np.arange(self.search_items, len(self._difficulties))) > 0))


class MixedLandscape(Landscape):
    """A landscape over reals, integers and choices, and over reals that count only where a choice is made.

    A point is seen as its reals, its integers over their range, and an axis for each option of each choice. The start
    is the middle of the reals and integers, and option 0 of each choice; the optimum's option is never 0.

    Attributes:
        domain: of the points.
        gated: whether real k says something only where choice k is not option 0, as a block's gain only where the
            block is in a stack.
        optimum_point: where the skill is highest.
    """

    def __init__(self, domain: Domain, *, seed: int, gated: bool = False, **options: float):
        """Draw a landscape.

        Args:
            domain: of the points; each choice has at least two options.
            seed: the only source of randomness.
            gated: see the class.
            options: those of `Landscape`.
        """
        if min(domain.categories, default=2) < 2 or (gated and domain.reals > len(domain.categories)):
            raise ValueError("expected choices of two options or more, and a choice for each gated real")
        self.domain, self.gated = domain, gated
        size = domain.reals + len(domain.integers) + sum(domain.categories)
        super().__init__(size, seed=seed, **options)  # type: ignore[arg-type]
        random = np.random.default_rng([seed, size, 1])
        self.optimum_point = Point(
            reals=tuple(float(value) for value in self.optimum[: domain.reals]),
            integers=tuple(int(random.integers(0, levels)) for levels in domain.integers),
            categories=tuple(int(random.integers(1, count)) for count in domain.categories),
        )
        middle = tuple((levels - 1) // 2 for levels in domain.integers)
        self.start_point = Point(reals=(0.5,) * domain.reals, integers=middle, categories=(0,) * len(domain.categories))
        self.optimum, self.start = self.embedded(self.optimum_point), self.embedded(self.start_point)
        self._set_curvature()

    def embedded(self, point: Point) -> FloatArray:
        """Return where a point is seen, (dimensions,)."""
        reals = [0.5 if self.gated and point.categories[k] == 0 else value for k, value in enumerate(point.reals)]
        integers = [
            value / max(levels - 1, 1) for value, levels in zip(point.integers, self.domain.integers, strict=True)
        ]
        axes = [
            OPTION_DISTANCE * (option == chosen)
            for chosen, count in zip(point.categories, self.domain.categories, strict=True)
            for option in range(count)
        ]
        return np.array([*reals, *integers, *axes], dtype=np.float64)


class NullLandscape(Landscape):
    """A landscape on which there is nothing to gain: every point has the accuracy of the best reference.

    Points still answer different items right, so that a search finds candidates that look better by luck; a claim of a
    gain over the best reference is false.

    Attributes:
        references: (number of references, dimensions) points, the best one first.
        reference_accuracies: their expected accuracies.
    """

    def __init__(
        self,
        dimensions: int,
        *,
        seed: int,
        gaps: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        references: Sequence[Sequence[float]] | None = None,
        best_accuracy: float = 0.6,
        **options: float,
    ):
        """Draw a landscape without a gain.

        Args:
            dimensions: coordinates of a point.
            seed: the only source of randomness.
            gaps: how far each reference is below the best accuracy; the first must be 0. All 0: equal references;
                (0, 0.02, 0.02, 0.02): 2 points apart.
            references: where they are, as many as `gaps`; None = the first in the middle, the others near corners.
            best_accuracy: expected accuracy of the best reference, and of every point that is no reference.
            options: `search_items`, `held_out_items`, `rho`, `noise`, `length` and `features` of `Landscape`.
        """
        if not gaps or gaps[0] != 0.0 or min(gaps) < 0.0:
            raise ValueError("expected gaps of 0 or more, the first of them 0")
        super().__init__(
            dimensions,
            seed=seed,
            start_accuracy=best_accuracy / 2,
            best_accuracy=best_accuracy,
            **options,  # type: ignore[arg-type]
        )
        random = np.random.default_rng([seed, dimensions, len(gaps)])
        others = random.integers(0, 2, size=(len(gaps) - 1, dimensions)).astype(np.float64)
        # corners, moved a little: two of them may be the same corner in few dimensions
        moved = np.abs(others - random.uniform(0.0, 0.1, others.shape))
        self.references: FloatArray = np.vstack([self.start, moved])
        if references is not None:
            self.references = np.array(references, dtype=np.float64).reshape(len(gaps), dimensions)
        self.reference_accuracies = tuple(best_accuracy - gap for gap in gaps)

    def skill(self, x: Sequence[float] | FloatArray) -> float:
        """Return the skill of the reference at this very point, or else that of the best one."""
        same = np.flatnonzero((self.references == np.asarray(x)).all(axis=1))
        accuracy = self.reference_accuracies[same[0] if same.size else 0]
        return math.sqrt(1 + self.noise**2) * PHI.inv_cdf(accuracy)
