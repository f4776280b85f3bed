"""A run's candidates, values and choices, read from its ledger once."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import PurePath
from typing import Any

from evomerge.records import POOLS, Candidate, Kind, Objective, Pool
from evomerge.run._judgement import REFERENCE_KINDS
from evomerge.run._objectives import displayed_value
from evomerge.run._ranking import Ranking
from evomerge.run._run import Run


class RunFacts:
    """What a report needs of a run again and again. A run that goes on is seen as it was when this was made.

    Attributes:
        run: the run.
        objectives: what the search is for.
        candidates: everything that was tried, references and means included, by id.
        by_id: the same by id.
    """

    def __init__(self, run: Run):
        self.run = run
        self.objectives: tuple[Objective, ...] = run.objectives
        self.candidates: list[Candidate] = run.candidates()
        self.by_id: Mapping[int, Candidate] = {candidate.id: candidate for candidate in self.candidates}

    @cached_property
    def ranking(self) -> Ranking:
        """Search scores made comparable across subsets: as the proof used them, or as they are now."""
        return self.run.ranking()

    @cached_property
    def front(self) -> frozenset[int]:
        """Ids of the candidates that no other dominates."""
        chosen = self.run.fact("front")
        return frozenset(self.ranking.front(list(self.ranking.values)) if chosen is None else chosen)

    @cached_property
    def pick(self) -> Candidate | None:
        """The run's result, or None before there is one."""
        return self.by_id.get(self.run.fact("pick", -1))

    @cached_property
    def verdict(self) -> Mapping[str, Any] | None:
        """Whether the pick's gain is proven, as plain data, or None."""
        return self.run.verdict

    @cached_property
    def names(self) -> dict[int, str]:
        """Id -> a name short enough for a figure, each different."""
        return short_names({candidate.id: candidate.name for candidate in self.candidates})

    def of_kind(self, *kinds: Kind) -> list[Candidate]:
        """Return the candidates of some kinds, by id."""
        return [candidate for candidate in self.candidates if candidate.kind in kinds]

    @property
    def references(self) -> list[Candidate]:
        """The parents, simple merges and start recipes, and what a random search has found, by id."""
        return [known for known in self.of_kind(*REFERENCE_KINDS) if not known.from_control or "report" in known.scores]

    @property
    def searched(self) -> list[Candidate]:
        """What the optimizer proposed, by id."""
        return self.of_kind("candidate")

    @cached_property
    def leading(self) -> list[Candidate]:
        """The pick, the front, finalists, means and references: the best on the last pool that they share first."""

        def order(candidate: Candidate) -> tuple[float, ...]:
            means = [self.mean(candidate, pool) for pool in reversed(POOLS)]
            return (*(float("inf") if mean is None else -mean for mean in means), candidate.id)

        return sorted(self.run.listed(), key=order)

    def mean(self, candidate: Candidate, pool: Pool) -> float | None:
        """Return the weighted mean of the objectives on a pool, or None; on the search pool, of the raw scores."""
        return self.run.mean_score(candidate, pool)

    def adjusted(self, candidate: int, objective: Objective) -> float | None:
        """Return a candidate's search score, adjusted for item difficulty, in the metric's own units; None without."""
        values = self.ranking.values.get(candidate)
        return None if values is None else displayed_value(objective, values[objective.name])

    @cached_property
    def best_parent(self) -> Candidate | None:
        """The parent with the best mean on the last pool that a parent was scored on."""
        parents = self.of_kind("parent")
        for pool in reversed(POOLS):
            means = {c.id: mean for c in parents if (mean := self.mean(c, pool)) is not None}
            if means:
                return self.by_id[max(means, key=lambda identity: (means[identity], -identity))]
        return None


def short_names(names: Mapping[int, str]) -> dict[int, str]:
    """Return names without the folders in front, as long as those that remain differ.

    Args:
        names: id -> name.
    """
    short = {identity: PurePath(name).name or name for identity, name in names.items()}
    counts = _counts(short.values())
    return {identity: name if counts[name] == 1 else names[identity] for identity, name in short.items()}


def _counts(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found
