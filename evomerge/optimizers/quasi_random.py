"""A scrambled Sobol sequence (Owen 1998, https://doi.org/10.1006/jcom.1998.0487) by scipy: a baseline without gaps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evomerge.optimizers.core import GENERATION_SIZE, MemorylessOptimizer, OptimizerSpec
from evomerge.records import Domain, Point


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> MemorylessOptimizer:
    """Build `quasi_random`; `start` is the first proposal."""
    from scipy.stats import qmc  # scipy is heavy, and only this baseline needs it

    sobol = qmc.Sobol(domain.size, scramble=True, seed=np.random.Generator(np.random.PCG64(seed)))
    return MemorylessOptimizer(
        QUASI_RANDOM.name,
        domain,
        lambda: sobol.random(1)[0],
        objectives=objectives,
        start=start,
        generation_size=options["generation_size"],
    )


QUASI_RANDOM = OptimizerSpec(
    name="quasi_random",
    description="Sobol points (scipy): a baseline that covers low dimensions evenly",
    create=create,
    options=(GENERATION_SIZE,),
)
