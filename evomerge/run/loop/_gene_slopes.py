"""From derivatives by recipe parameters to derivatives by genes.

How fast each tensor's parameters change with each gene is found by decoding the space's start with one gene moved at a
time and comparing the plans: it holds for every space whose genes act linearly on the parameters of the same tensors,
which is checked at another point. Genes on a logarithmic scale act linearly on what the space says they stand for
(`straightened`); the chain rule does the rest. Other spaces have no gene gradients, and say why.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evomerge.engine import GradientTable, Plan, make_plan
from evomerge.errors import EvomergeError
from evomerge.methods import Direction, directions, get
from evomerge.records import Point
from evomerge.run.config._setup import Setup
from evomerge.space import Space

STEP = 0.25  # of a gene's range: far above the grid that values snap to
TOLERANCE = 0.02  # relative; snapping moves values by a thousandth of the step
MAX_GENES = 4096  # plans that are made before the first gradient
SMALL = 1e-4  # of a gene's range: for derivatives of a scale, which is a smooth function
NO_SLOPES = "its genes do not act linearly on parameters that a gradient can be taken by"

_Vector = npt.NDArray[np.float64]


class _Entry(NamedTuple):
    """One number of a plan's settings: row of its tensor, and the direction."""

    row: int
    direction: Direction


class GeneSlopes:
    """The linear map from genes to parameters of tensors.

    Attributes:
        directions: the parameters that some gene moves, in the order of a gradient table's columns.
        without: numbers of the real genes that move no such parameter.
    """

    def __init__(self, entries: Sequence[dict[_Entry, float]], space: Space):
        """Keep the slopes.

        Args:
            entries: for each real gene, how fast each number changes with it, on its linear scale.
            space: whose genes they are.
        """
        self._space = space
        self.without = tuple(number for number, slopes in enumerate(entries) if not slopes)
        self.directions = tuple(sorted({entry.direction for slopes in entries for entry in slopes}, key=str))
        column = {direction: i for i, direction in enumerate(self.directions)}
        self._genes = [
            (
                np.array([entry.row for entry in slopes], dtype=np.int64),
                np.array([column[entry.direction] for entry in slopes], dtype=np.int64),
                np.array(list(slopes.values()), dtype=np.float64),
            )
            for slopes in entries
        ]

    def gradient(self, table: GradientTable, point: Point) -> tuple[float, ...]:
        """Return the derivative by each real gene, NaN where it is unknown.

        Args:
            table: (planned tensors, directions).
            point: where the derivatives were taken.
        """
        found = (float(table[rows, columns] @ values) for rows, columns, values in self._genes)
        if not hasattr(self._space, "straightened"):
            return tuple(found)
        above, below = (_straightened(self._space, [u + step for u in point.reals]) for step in (SMALL, -SMALL))
        stretch = [(high - low) / (2 * SMALL) for high, low in zip(above, below, strict=True)]
        return tuple(
            value if abs(factor - 1) < SMALL**2 else value * factor
            for value, factor in zip(found, stretch, strict=True)
        )


def gene_slopes(setup: Setup) -> GeneSlopes | str:
    """Return the map of a search's space, or why it has none."""
    reason: str | None = getattr(setup.space, "no_gradient", None)
    if reason is not None:
        return reason
    if setup.space.domain.categories:
        return "a choice has no derivative"
    return _linear_slopes(setup) or NO_SLOPES


def _straightened(space: Space, reals: Sequence[float]) -> Sequence[float]:
    """Return real coordinates on a scale that recipe values are linear in."""
    found: Sequence[float] = space.straightened(reals) if hasattr(space, "straightened") else reals
    return found


def _linear_slopes(setup: Setup) -> GeneSlopes | None:
    """Return the map, or None if genes do not act linearly on parameters that have slopes."""
    domain, start = setup.space.domain, setup.space.start
    if not domain.reals or domain.reals > MAX_GENES:
        return None
    try:
        slopes = _slopes_at(setup, start, range(domain.reals))
        other = replace(start, reals=tuple(0.3 + 0.4 * ((7 * i) % 11) / 10 for i in range(domain.reals)))
        sample = sorted({0, domain.reals // 2, domain.reals - 1})
        elsewhere = _slopes_at(setup, other, sample)
    except EvomergeError:  # a point of the space that cannot be planned: its candidates will say why
        return None
    if slopes is None or elsewhere is None or not any(slopes):
        return None
    if not all(_alike(slopes[gene], found) for gene, found in zip(sample, elsewhere, strict=True)):
        return None
    return GeneSlopes(slopes, setup.space)


def _slopes_at(setup: Setup, point: Point, genes: Sequence[int]) -> list[dict[_Entry, float]] | None:
    """Return how fast each number changes with each of some genes; None if the tensors themselves change."""
    before = _numbers(_plan(setup, point))
    found = []
    for gene in genes:
        step = STEP if point.reals[gene] + STEP <= 1 else -STEP
        reals = tuple(value + step * (i == gene) for i, value in enumerate(point.reals))
        after = _numbers(_plan(setup, replace(point, reals=reals)))
        if after.keys() != before.keys():
            return None
        moved = _straightened(setup.space, reals)[gene] - _straightened(setup.space, point.reals)[gene]
        found.append(
            {entry: (after[entry] - before[entry]) / moved for entry in before if after[entry] != before[entry]}
        )
    return found


def _plan(setup: Setup, point: Point) -> Plan:
    return make_plan(setup.recipe(setup.document(point)), setup.parents)


def _numbers(plan: Plan) -> dict[_Entry, float]:
    """Return every number of a plan that its tensors depend on smoothly."""
    found = {}
    for row, tensor in enumerate(plan.tensors):
        if tensor.copied:
            continue
        for direction in directions(get(tensor.method), tensor.settings):
            values = tensor.settings.merge if direction.model is None else tensor.settings.parents[direction.model]
            found[_Entry(row, direction)] = float(dict(values)[direction.parameter])
    return found


def _alike(here: dict[_Entry, float], there: dict[_Entry, float]) -> bool:
    """Tell whether a gene acts in the same way at two points."""
    if here.keys() != there.keys():
        return False
    first, second = (np.array([slopes[entry] for entry in here]) for slopes in (here, there))
    return bool(np.allclose(first, second, rtol=TOLERANCE, atol=1e-9))
