"""What a search has so far: its candidates, their items, and the sums that budgets and views ask for all the time."""

import heapq
from collections.abc import Iterable, Mapping

from evomerge.errors import EvomergeError
from evomerge.records import Candidate, Failure, ItemScores
from evomerge.run._floors import floors_of, parent_scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, values_of
from evomerge.run.config._setup import Setup

HOPELESS = 30  # failures in a row after which the machine, not the candidates, must be at fault
LEADING = 128  # candidates that may turn out to be the best once their scores are adjusted
LATEST = 256  # candidates whose items tell how hard a new subset is; more would only take more time


class SearchState:
    """What a driver needs of its candidates all the time, kept up to date; a night's recipes and items stay on disk.

    known: references, and the candidates that are not finished. numbers: candidate -> the optimizer's number of it.
    table: candidate -> objective -> its items of the search pool, of `latest` and `leading`.
    floors: objective -> inner floor; those that hang on a parent appear with its scores.
    done: finished candidates, references not counted. scored: candidates with scores, and references. items: that were
    scored. busy: seconds that workers spent on them. failures: kind -> count.
    """

    def __init__(self, setup: Setup):
        self._setup = setup
        self._failed_in_a_row = 0
        self.known: dict[int, Candidate] = {}
        self.numbers: dict[int, int] = {}
        self.table: dict[int, Mapping[str, ItemScores]] = {}
        self.floors = floors_of(setup.objectives, setup.relative_floors, {})
        self.failures: dict[str, int] = {}
        self.done = self.scored = self.items = 0
        self.busy = 0.0
        self._leading: list[tuple[float, int]] = []  # heap of (fitness, -candidate)
        self._latest: list[int] = []  # heap

    @property
    def leading(self) -> dict[int, Mapping[str, ItemScores]]:
        """What tells who is ahead: the items of the references, and of the candidates of the best raw fitness."""
        return self._items_of(sorted(-number for _, number in self._leading))

    @property
    def latest(self) -> dict[int, Mapping[str, ItemScores]]:
        """The items of the references, and of the last candidates that were scored."""
        return self._items_of(sorted(self._latest))

    def _items_of(self, candidates: Iterable[int]) -> dict[int, Mapping[str, ItemScores]]:
        references = (each for each in self.table if each not in self.numbers)
        return {each: self.table[each] for each in (*references, *candidates)}

    def read(self, ledger: Ledger) -> None:
        """Take over what a ledger says."""
        self.numbers = {step.candidate: step.number for step in ledger.steps() if step.kind == "ask"}
        for each in ledger.each_candidate():
            self.known[each.id] = each
            if each.state != "running":
                self.finish(each, ledger.items_of(each.id, "search") if "search" in each.scores else None)

    def ask(self, candidate: Candidate, number: int) -> None:
        """Note a new candidate."""
        self.known[candidate.id], self.numbers[candidate.id] = candidate, number

    def finish(self, candidate: Candidate, items: Mapping[str, ItemScores] | None) -> None:
        """Note a candidate that was scored or has failed."""
        self.known[candidate.id] = candidate
        if items is not None:
            self.table[candidate.id] = items
            self.scored += 1
            self.items += sum(len(scores.ids) for scores in items.values())
            self.busy += candidate.seconds or 0.0
        if candidate.id in self.numbers:
            self.done += 1
            del self.known[candidate.id]
            if items is not None:
                self._keep_few(candidate)
        if candidate.failure is not None:
            self.failures[candidate.failure.kind] = self.failures.get(candidate.failure.kind, 0) + 1
        if candidate.kind == "parent":
            scores = parent_scores(self.known.values(), "search")
            self.floors = floors_of(self._setup.objectives, self._setup.relative_floors, scores)

    def _keep_few(self, candidate: Candidate) -> None:
        """Drop the items of whoever is neither among the latest nor the leading any longer."""
        value = fitness(self._setup.objectives, values_of(candidate.scores["search"]), self.floors)
        dropped = {candidate.id}
        heapq.heappush(self._leading, (value, -candidate.id))
        heapq.heappush(self._latest, candidate.id)
        if len(self._leading) > LEADING:
            dropped.add(-heapq.heappop(self._leading)[1])
        if len(self._latest) > LATEST:
            dropped.add(heapq.heappop(self._latest))
        for each in dropped.difference(self._latest, (-number for _, number in self._leading)):
            self.table.pop(each, None)

    def despair(self, failure: Failure | None, generation_size: int) -> None:
        """Count failures in a row.

        Raises:
            EvomergeError: so many failed that the candidates cannot be the reason.
        """
        self._failed_in_a_row = 0 if failure is None else self._failed_in_a_row + 1
        if failure is not None and self._failed_in_a_row >= max(HOPELESS, 2 * generation_size):
            raise EvomergeError(
                f"{self._failed_in_a_row} candidates in a row failed, so something else than the candidates is wrong; "
                f"the last reason: {failure.reason}"
            )
