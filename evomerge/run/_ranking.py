"""Which candidate is best: scores of candidates that saw different items, made comparable by item effects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evomerge.optimizers import front, spread
from evomerge.records import ItemScores, Objective
from evomerge.run._objectives import fitness, scale_factor, vector
from evomerge.run.trackers import FrontMember
from evomerge.stats import ItemEffects, ItemResponse, interval_of, item_effects, item_response, score_of

ADJUSTED = "adjusted"  # the ledger's fact, once the search has ended: candidate -> objective -> adjusted value
CALIBRATION = "calibration"  # the ledger's fact, once there is a pick: what `calibration` returns
ScoreTable = Mapping[int, Mapping[str, ItemScores]]  # candidate -> objective -> item scores


def effects_of(objectives: Sequence[Objective], table: ScoreTable) -> dict[str, ItemEffects]:
    """Return the item effects of each objective. Items of weight 0 say nothing and are left out.

    A metric of the whole set has none: no sum of item and candidate is that metric, so it is compared as it was scored.
    An exact one needs none.
    """
    return {
        objective.name: item_effects([(c, _without_zero_weights(items[objective.name])) for c, items in table.items()])
        for objective in objectives
        if table and not objective.exact and not any(items[objective.name].parts for items in table.values())
    }


def _without_zero_weights(items: ItemScores) -> ItemScores:
    if items.weights is None or all(items.weights):
        return items
    return items.at([i for i, weight in enumerate(items.weights) if weight])


def _responses(
    effects: Mapping[str, ItemEffects], table: ScoreTable, parents: Sequence[int]
) -> dict[str, ItemResponse]:
    """Return the item-response model of each objective whose values are from 0 to 1."""
    return {
        name: item_response([(c, _without_zero_weights(items[name])) for c, items in table.items()], parents)
        for name, known in effects.items()
        if known.logistic
    }


def calibration(
    adjusted: Mapping[int, Mapping[str, float]], select: Mapping[int, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return how far adjusted search scores were from the scores on the select items, which the search did not see.

    Args:
        adjusted: candidate -> objective -> adjusted value.
        select: candidate -> objective -> internal value on the select pool.

    Returns:
        Objective -> "n" candidates, "mean_error" (adjusted less select; above 0 = too good), "mean_absolute_error".
    """
    errors: dict[str, list[float]] = {}
    for candidate in adjusted.keys() & select.keys():
        for name, value in select[candidate].items():
            errors.setdefault(name, []).append(adjusted[candidate][name] - value)
    return {
        name: {
            "n": len(found),
            "mean_error": float(np.mean(found)),
            "mean_absolute_error": float(np.mean(np.abs(found))),
        }
        for name, found in sorted(errors.items())
    }


def difficulty_offset(effects: Mapping[str, ItemEffects], items: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return how much harder some items are than all known ones, for a candidate as able as the best.

    Added to a raw score, it makes scores of different subsets comparable for optimizers that compare generations.

    Args:
        effects: objective -> item effects.
        items: objective -> item ids of the subset.

    Returns:
        Objective -> offset in units of the internal value; positive for items that are harder than the average.
    """
    found: dict[str, float] = {}
    for name, known in effects.items():
        easiness = {item: known.easiness[item] for item in items[name] if item in known.easiness}
        best = max(known.abilities, key=lambda c: known.abilities[c])
        subset = replace(known, easiness=easiness, weights={item: known.weights[item] for item in easiness})
        found[name] = known.adjusted(best) - subset.adjusted(best) if easiness else 0.0
    return found


class Ranking:
    """Adjusted values of every scored candidate: what each would be expected to score on the whole pool.

    Attributes:
        values: candidate -> objective -> adjusted internal value.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        table: ScoreTable,
        floors: Mapping[str, float],
        *,
        parents: Sequence[int] = (),
    ):
        """Adjust the scores of a table.

        Args:
            objectives: all objectives.
            table: candidate -> objective -> item scores.
            floors: objective -> internal floor; whoever misses one ranks behind.
            parents: candidates that are parents: adjust by an item-response model whose abilities are mixtures of
                theirs, for objectives whose item scores are from 0 to 1. None = by item effects.
        """
        self._objectives, self._floors = objectives, floors
        effects = effects_of(objectives, table)
        models: dict[str, ItemEffects | ItemResponse] = {**effects}
        if parents:
            models |= _responses(effects, table, parents)
        self.values: dict[int, dict[str, float]] = {
            candidate: {
                objective.name: models[objective.name].adjusted(candidate)
                if objective.name in models
                else score_of(items[objective.name]).value
                for objective in objectives
            }
            for candidate, items in table.items()
        }

    @classmethod
    def of_values(
        cls, objectives: Sequence[Objective], values: Mapping[int, Mapping[str, float]], floors: Mapping[str, float]
    ) -> "Ranking":
        """Rank given values, such as those of a pool that every candidate was scored on whole."""
        ranking = cls(objectives, {}, floors)
        ranking.values = {candidate: dict(found) for candidate, found in values.items()}
        return ranking

    def fitness(self, candidate: int) -> float:
        """Return the adjusted fitness of a candidate."""
        return fitness(self._objectives, self.values[candidate], self._floors)

    def ranked(self, candidates: Sequence[int]) -> list[int]:
        """Return candidates by descending adjusted fitness, equal ones by number; unknown ones are left out."""
        return sorted((c for c in candidates if c in self.values), key=lambda c: (-self.fitness(c), c))

    def front(self, candidates: Sequence[int]) -> list[int]:
        """Return the candidates that no other dominates."""
        known = [c for c in candidates if c in self.values]
        indices = front([vector(self._objectives, self.values[c], self._floors) for c in known])
        return [known[i] for i in indices]

    def spread(self, candidates: Sequence[int], count: int) -> list[int]:
        """Return up to so many of the candidates that no other dominates, which stand for all of them.

        They are those that add most hypervolume, in that order.
        """
        known = self.ranked(self.front(candidates))
        points = [vector(self._objectives, self.values[c], self._floors) for c in known]
        return [known[i] for i in spread(points, count)]


def fitness_interval(
    objectives: Sequence[Objective], items: Mapping[str, ItemScores], center: float
) -> tuple[float, float]:
    """Return the 95% interval of a weighted mean of objectives, from the intervals of each.

    The distances of the ends are combined as independent ones are (square-and-add, Zou & Donner 2008,
    https://doi.org/10.1002/sim.3095), so that 0/1 items keep Wilson's intervals, which are never empty.

    Args:
        objectives: all objectives.
        items: objective -> item scores of one candidate.
        center: the fitness that the distances are taken from, such as an adjusted one. Where all values are from 0 to
            1, so are the ends.
    """
    total = sum(objective.weight for objective in objectives)
    below = above = 0.0
    bounded = True
    for objective in objectives:
        own = items[objective.name]
        found = interval_of(own, exact=objective.exact)
        share = objective.weight / total * scale_factor(objective)
        below += (share * (found.value - found.low)) ** 2
        above += (share * (found.high - found.value)) ** 2
        bounded &= own.parts is None and objective.scale is None and min(own.values) >= 0.0 and max(own.values) <= 1.0
    distance = max(below, above) ** 0.5  # an adjusted center may lie away from a bound that the raw one has reached
    low, high = center - distance, center + distance
    return (max(low, min(0.0, center)), min(high, max(1.0, center))) if bounded else (low, high)


def front_members(ranking: Ranking, front: Sequence[int]) -> tuple[FrontMember, ...]:
    """Return the candidates of a front as trackers are given them, by descending fitness."""
    return tuple(
        FrontMember(candidate=candidate, fitness=ranking.fitness(candidate), values=ranking.values[candidate])
        for candidate in ranking.ranked(front)
    )
