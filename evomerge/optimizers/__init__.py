"""Optimizers that propose points and learn from their values, and the Pareto front.

    optimizer = create("auto", Domain(reals=12), objectives=1, seed=0, start=None, options={})
    proposal = optimizer.ask()
    optimizer.tell(proposal.number, (score,))     # higher is better; None if it could not be scored

One optimizer a file. This package must not import models, files, recipes or spaces: it knows points of a Domain and
tuples of values, not what they mean, how they were measured or how many workers there are. The algorithms are those of
cma, cmaes, Optuna and scipy; none of these libraries is imported before it is used.

An optimizer of one's own is an `OptimizerSpec`, given to `register` or named by an entry point of the group
`evomerge.optimizers`. `PendingProposals` does the bookkeeping of ask and tell, `GenerationalOptimizer` that of
generations that may overlap. Resuming is replaying: see `Optimizer`. The contract is
`evomerge.testing.optimizers.OptimizerContract`; every optimizer here passes it.
"""

from evomerge.optimizers._levels import LevelOptimizer
from evomerge.optimizers._registry import (
    OPTIMIZERS,
    create,
    create_by_levels,
    create_by_stages,
    get,
    goes_by_levels,
    names,
    register,
    resolve_auto,
    validate_options,
)
from evomerge.optimizers._stages import StageOptimizer
from evomerge.optimizers.core import (
    BEGIN_AT_SPACE,
    CreateOptimizer,
    EvolutionStrategy,
    GenerationalOptimizer,
    GradientOptimizer,
    ItemOptimizer,
    ItemValue,
    Optimizer,
    OptimizerSpec,
    OptionSpec,
    PendingProposals,
    Proposal,
    Vector,
    VectorCodec,
    center,
    dominates,
    front,
    hypervolume,
    knee,
    point_from_unit,
    spread,
)

__all__ = [
    "BEGIN_AT_SPACE",
    "OPTIMIZERS",
    "CreateOptimizer",
    "EvolutionStrategy",
    "GenerationalOptimizer",
    "GradientOptimizer",
    "ItemOptimizer",
    "ItemValue",
    "LevelOptimizer",
    "Optimizer",
    "OptimizerSpec",
    "OptionSpec",
    "PendingProposals",
    "Proposal",
    "StageOptimizer",
    "Vector",
    "VectorCodec",
    "center",
    "create",
    "create_by_levels",
    "create_by_stages",
    "dominates",
    "front",
    "get",
    "goes_by_levels",
    "hypervolume",
    "knee",
    "names",
    "point_from_unit",
    "register",
    "resolve_auto",
    "spread",
    "validate_options",
]
