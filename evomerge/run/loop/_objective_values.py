"""What an optimizer is told of a candidate: one fitness, or a value for each objective."""

from evomerge import optimizers
from evomerge.optimizers import Optimizer
from evomerge.records import Candidate, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, values_of, vector
from evomerge.run._ranking import effects_of, handicap
from evomerge.run.config._setup import Setup
from evomerge.run.loop._state import SearchState
from evomerge.run.loop._subsets import Subsets


class ObjectiveValues:
    """Turns scores into values; for optimizers that compare generations, with the handicap of the subset.

    A handicap is estimated once, when the subset's first candidate comes back, and kept in the ledger: a resumed run
    must not estimate it anew from more scores.
    """

    def __init__(self, setup: Setup, ledger: Ledger, optimizer: Optimizer, subsets: Subsets, tally: SearchState):
        self._setup, self._ledger, self._optimizer = setup, ledger, optimizer
        self._subsets, self._tally = subsets, tally
        kept = ledger.meta("handicaps", {})
        self._handicaps: dict[int, dict[str, float]] = {int(subset): found for subset, found in kept.items()}

    def values(self, candidate: Candidate, scores: Scores | None) -> tuple[float, ...] | None:
        """Return what to tell of a candidate, None if it has no scores; call it within a transaction."""
        if scores is None:
            return None
        values = values_of(scores)
        if optimizers.get(self._optimizer.name).compares_generations:
            for name, more in self._handicap(candidate.subset).items():
                values[name] += more
        floors = self._tally.floors
        if self._optimizer.objectives == 1:
            return (fitness(self._setup.objectives, values, floors),)
        return vector(self._setup.objectives, values, floors)

    def _handicap(self, subset: int) -> dict[str, float]:
        if subset not in self._handicaps:
            effects = effects_of(self._setup.objectives, self._tally.latest)
            self._handicaps[subset] = handicap(effects, self._subsets.items(subset))
            self._ledger.set_meta("handicaps", {str(each): found for each, found in self._handicaps.items()})
        return self._handicaps[subset]
