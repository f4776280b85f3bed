"""What an optimizer learns of a candidate: one fitness, or a value for each objective."""

from evomerge import optimizers
from evomerge.optimizers import Optimizer
from evomerge.records import Candidate, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, values_of, vector
from evomerge.run._ranking import difficulty_offset, effects_of
from evomerge.run.config._setup import Setup
from evomerge.run.loop._state import SearchState
from evomerge.run.loop._subsets import Subsets

OFFSETS = "handicaps"  # the ledger's fact: subset -> objective -> difficulty offset


class ObjectiveValues:
    """Turns scores into objective values; with the subset's difficulty offset for optimizers that compare generations.

    An offset is estimated once, when the subset's first candidate comes back, and kept in the ledger: a resumed run
    must not estimate it again from more scores.
    """

    def __init__(self, setup: Setup, ledger: Ledger, optimizer: Optimizer, subsets: Subsets, state: SearchState):
        self._setup, self._ledger, self._optimizer = setup, ledger, optimizer
        self._subsets, self._state = subsets, state
        stored = ledger.meta(OFFSETS, {})
        self._offsets: dict[int, dict[str, float]] = {int(subset): found for subset, found in stored.items()}

    def of(self, candidate: Candidate, scores: Scores | None) -> tuple[float, ...] | None:
        """Return a candidate's objective values, higher is better; None if it has no scores.

        Call it within a transaction of the ledger: it may record a new offset.
        """
        if scores is None:
            return None
        values = values_of(scores)
        if optimizers.get(self._optimizer.name).compares_generations:
            for name, more in self._offset(candidate.subset).items():
                values[name] += more
        floors = self._state.floors
        if self._optimizer.objectives == 1:
            return (fitness(self._setup.objectives, values, floors),)
        return vector(self._setup.objectives, values, floors)

    def _offset(self, subset: int) -> dict[str, float]:
        if subset not in self._offsets:
            effects = effects_of(self._setup.objectives, self._state.latest)
            self._offsets[subset] = difficulty_offset(effects, self._subsets.items(subset))
            self._ledger.set_meta(OFFSETS, {str(number): found for number, found in self._offsets.items()})
        return self._offsets[subset]
