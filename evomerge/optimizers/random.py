"""Uniform random points, each independent of the others: the plainest baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evomerge.optimizers.core import GENERATION_SIZE, MemorylessOptimizer, OptimizerSpec
from evomerge.records import Domain, Point


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> MemorylessOptimizer:
    """Build `random`; `start` is the first proposal."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return MemorylessOptimizer(
        RANDOM.name,
        domain,
        lambda: generator.random(domain.size),
        objectives=objectives,
        start=start,
        generation_size=options["generation_size"],
    )


RANDOM = OptimizerSpec(
    name="random",
    description="uniform random points: a baseline",
    create=create,
    options=(GENERATION_SIZE,),
)
