"""Search: optimizers that propose points and learn from their values, and the Pareto front.

    optimizer = create("auto", Domain(reals=12), objectives=1, seed=0, start=None, options={})
    proposal = optimizer.ask()
    optimizer.tell(proposal.number, (score,))     # higher is better; None if it could not be scored

It knows numbers only: points in a Domain and tuples of values. It refuses to know what a point means, how a value was
measured, where anything is stored and how many workers there are. The algorithms are those of cma, cmaes and Optuna;
none is home-made, and none of them is imported before it is created.

Resuming is replaying: the same sequence of ask, tell and inject on a fresh optimizer gives the same points. The
contract is `evomerge.testing.optimizers.OptimizerContract`; every optimizer here passes it.
"""

from evomerge.optimizers._catalog import OPTIMIZERS, OptimizerInfo, OptionSpec
from evomerge.optimizers._pareto import dominates, front, hypervolume
from evomerge.optimizers._protocol import Optimizer, Proposal
from evomerge.optimizers._registry import create, resolve_auto, validate_options

__all__ = [
    "OPTIMIZERS",
    "Optimizer",
    "OptimizerInfo",
    "OptionSpec",
    "Proposal",
    "create",
    "dominates",
    "front",
    "hypervolume",
    "resolve_auto",
    "validate_options",
]
