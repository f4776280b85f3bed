"""A plain grid over one or two coordinates, in random order, so that it may be stopped at any time.

When all of its points were proposed, the steps between reals are halved and the points in between follow. A domain
without reals is proposed from the beginning again.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from evomerge.optimizers.core import GENERATION_SIZE, MemorylessOptimizer, OptimizerSpec, OptionSpec, Vector
from evomerge.records import Domain, Point


def grid_points(domain: Domain, steps: int, generator: np.random.Generator) -> Iterator[Vector]:
    """Yield points of ever finer grids as numbers in the unit cube, shape (domain.size,), each once if reals vary.

    Args:
        domain: of the points.
        steps: intervals between the values of a real, both ends included.
        generator: of the order within each grid.
    """
    whole = [[(level + 0.5) / count for level in range(count)] for count in domain.integers + domain.categories]
    seen: set[tuple[float, ...]] = set()
    while True:
        reals = [[step / steps for step in range(steps + 1)]] * domain.reals
        new = [point for point in itertools.product(*reals, *whole) if point not in seen]
        if not new:
            seen.clear()
            continue
        for position in generator.permutation(len(new)):
            yield np.array(new[position])
        seen.update(new)
        steps *= 2


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> MemorylessOptimizer:
    """Build `grid`; `start` is the first proposal."""
    points = grid_points(domain, options["points"] - 1, np.random.Generator(np.random.PCG64(seed)))
    return MemorylessOptimizer(
        GRID.name,
        domain,
        lambda: next(points),
        objectives=objectives,
        start=start,
        generation_size=options["generation_size"],
    )


GRID = OptimizerSpec(
    name="grid",
    description="every point of a grid, then of finer ones: one or two coordinates, to see a whole landscape",
    create=create,
    options=(
        OptionSpec(
            name="points", kind=int, default=11, low=2, high=10_000, description="values of each real, ends included"
        ),
        GENERATION_SIZE,
    ),
    max_dimensions=2,
)
