"""What all optimizers share: points as numbers, ask and tell, overlapping generations, options, the Pareto front.

This package must not import the optimizers, nor a library of theirs.
"""

from evomerge.optimizers.core._domain import Vector, VectorCodec, center, point_from_unit, varied
from evomerge.optimizers.core._generational import OUTSIDE, Codec, EvolutionStrategy, GenerationalOptimizer
from evomerge.optimizers.core._pareto import dominates, front, hypervolume, knee, spread
from evomerge.optimizers.core._pending import MemorylessOptimizer, PendingProposals
from evomerge.optimizers.core._protocol import GradientOptimizer, ItemOptimizer, ItemValue, Optimizer, Proposal
from evomerge.optimizers.core._spec import (
    BEGIN,
    BEGIN_AT_SPACE,
    GENERATION_SIZE,
    POPSIZE,
    SIGMA0,
    CreateOptimizer,
    OptimizerSpec,
    OptionSpec,
)

__all__ = [
    "BEGIN",
    "BEGIN_AT_SPACE",
    "GENERATION_SIZE",
    "OUTSIDE",
    "POPSIZE",
    "SIGMA0",
    "Codec",
    "CreateOptimizer",
    "EvolutionStrategy",
    "GenerationalOptimizer",
    "GradientOptimizer",
    "ItemOptimizer",
    "ItemValue",
    "MemorylessOptimizer",
    "Optimizer",
    "OptimizerSpec",
    "OptionSpec",
    "PendingProposals",
    "Proposal",
    "Vector",
    "VectorCodec",
    "center",
    "dominates",
    "front",
    "hypervolume",
    "knee",
    "point_from_unit",
    "spread",
    "varied",
]
