"""Who is ahead: scores of candidates that saw different items, made comparable by item effects."""

from collections.abc import Mapping, Sequence

from evomerge.records import ItemScores, Objective
from evomerge.run._fitness import fitness, vector
from evomerge.search import front
from evomerge.stats import ItemEffects, item_effects

Table = Mapping[int, Mapping[str, ItemScores]]


class Standings:
    """Adjusted values of every scored candidate: what each would be expected to score on the whole pool."""

    def __init__(self, objectives: Sequence[Objective], table: Table, floors: Mapping[str, float]):
        self._objectives, self._floors = objectives, floors
        self._effects: dict[str, ItemEffects] = {}
        if table:
            for objective in objectives:
                self._effects[objective.name] = item_effects([(c, items[objective.name]) for c, items in table.items()])
        self.values: dict[int, dict[str, float]] = {
            candidate: {name: effects.adjusted(candidate) for name, effects in self._effects.items()}
            for candidate in table
        }

    @classmethod
    def of_values(
        cls, objectives: Sequence[Objective], values: Mapping[int, Mapping[str, float]], floors: Mapping[str, float]
    ) -> "Standings":
        """Rank given values, such as those of a pool that everybody was scored on whole."""
        standings = cls(objectives, {}, floors)
        standings.values = {candidate: dict(each) for candidate, each in values.items()}
        return standings

    def fitness(self, candidate: int) -> float:
        """Return the adjusted fitness of a candidate."""
        return fitness(self._objectives, self.values[candidate], self._floors)

    def ranked(self, candidates: Sequence[int]) -> list[int]:
        """Return candidates by falling adjusted fitness; equal ones by number."""
        return sorted((c for c in candidates if c in self.values), key=lambda c: (-self.fitness(c), c))

    def front(self, candidates: Sequence[int]) -> list[int]:
        """Return the candidates that no other dominates."""
        known = [c for c in candidates if c in self.values]
        indices = front([vector(self._objectives, self.values[c], self._floors) for c in known])
        return [known[i] for i in indices]

    def handicap(self, items: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Return objective -> how much harder these items are than all known ones, for a candidate at the top.

        Adding it to a raw score makes scores of different subsets comparable for optimisers that compare generations.
        """
        found: dict[str, float] = {}
        for name, effects in self._effects.items():
            known = {item: effects.eases[item] for item in items[name] if item in effects.eases}
            best = max(effects.abilities, key=lambda c: effects.abilities[c])
            subset = ItemEffects(
                abilities=effects.abilities,
                eases=known,
                weights={item: effects.weights[item] for item in known},
                logistic=effects.logistic,
            )
            found[name] = effects.adjusted(best) - subset.adjusted(best) if known else 0.0
        return found
