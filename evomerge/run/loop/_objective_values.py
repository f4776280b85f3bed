"""What an optimizer learns of a candidate: one fitness, or a value for each objective."""

from collections.abc import Iterable, Mapping

from evomerge import optimizers
from evomerge.records import Candidate, ItemScores, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import FLOOR_PENALTY, fitness, scale_factor, shortfall, values_of, vector
from evomerge.run._ranking import difficulty_offset, effects_of
from evomerge.run.config._setup import Setup
from evomerge.run.loop._soft_scores import Slopes, halves_of, slopes_of, soft_value
from evomerge.run.loop._state import SearchState
from evomerge.run.loop._subset_sizes import Halves
from evomerge.run.loop._subsets import Subsets

SLOPES = "soft_slopes"  # the ledger's fact: objective -> accuracy for one unit of soft score
OFFSETS = "handicaps"  # the ledger's fact: subset -> objective -> difficulty offset


class ObjectiveValues:
    """Turns scores into objective values; with the subset's difficulty offset for optimizers that compare generations.

    An offset is estimated once, when the subset's first candidate comes back, and kept in the ledger: a resumed run
    must not estimate it again from more scores.
    """

    def __init__(self, setup: Setup, ledger: Ledger, subsets: Subsets, state: SearchState):
        self._setup, self._ledger = setup, ledger
        spec = optimizers.get(setup.optimizer)
        self._compares_generations = spec.compares_generations
        self._scalar = spec.scalar or len(setup.objectives) == 1
        self._uses_soft = self._scalar and not spec.compares_generations
        self._slopes: Slopes = ledger.meta(SLOPES, {})
        self._subsets, self._state = subsets, state
        stored = ledger.meta(OFFSETS, {})
        self._offsets: dict[int, dict[str, float]] = {int(subset): found for subset, found in stored.items()}

    def calibrate(self, references: Iterable[Mapping[str, ItemScores]]) -> None:
        """Find, once, what soft scores say of accuracy. Call it within a transaction of the ledger.

        Args:
            references: each scored reference's objective -> items.
        """
        self._slopes = slopes_of(references)
        self._ledger.set_meta(SLOPES, self._slopes)

    def halves(self, items: Mapping[str, ItemScores]) -> Halves:
        """Return a candidate's fitness on one half of its items, and on the other, up to a constant."""
        total = sum(objective.weight for objective in self._setup.objectives)
        weights = {o.name: o.weight * scale_factor(o) / total for o in self._setup.objectives}
        return halves_of(items, self._slopes, weights)

    def of(
        self, candidate: Candidate, scores: Scores | None, items: Mapping[str, ItemScores] | None = None
    ) -> tuple[float, ...] | None:
        """Return a candidate's objective values, higher is better; None if it has no scores.

        Call it within a transaction of the ledger: it may record a new offset.

        Args:
            candidate: of the search.
            scores: its scores.
            items: what they were averaged from; with them, soft scores count as the accuracy that they predict.
        """
        if scores is None:
            return None
        values = values_of(scores)
        if self._slopes and self._uses_soft and items is not None:
            soft = {name: soft_value(found, self._slopes.get(name)) for name, found in items.items()}
            missed = shortfall(self._setup.objectives, values, self._state.floors)
            return (fitness(self._setup.objectives, soft, {}) - FLOOR_PENALTY * missed,)
        if self._compares_generations:
            for name, more in self._offset(candidate.subset).items():
                values[name] += more
        floors = self._state.floors
        if self._scalar:
            return (fitness(self._setup.objectives, values, floors),)
        return vector(self._setup.objectives, values, floors)

    def _offset(self, subset: int) -> dict[str, float]:
        if subset not in self._offsets:
            effects = effects_of(self._setup.objectives, self._state.latest)
            self._offsets[subset] = difficulty_offset(effects, self._subsets.items(subset))
            self._ledger.set_meta(OFFSETS, {str(number): found for number, found in self._offsets.items()})
        return self._offsets[subset]
