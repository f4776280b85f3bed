"""What a search has so far: its candidates, their items, and the sums that budgets and views ask for all the time."""

import heapq
from collections.abc import Mapping

from evomerge.errors import EvomergeError
from evomerge.records import Candidate, Failure, ItemScores
from evomerge.run._fitness import fitness, values_of
from evomerge.run._floors import floors_of, parent_scores
from evomerge.run._ledger import Ledger
from evomerge.run._setup import Setup

HOPELESS = 30  # failures in a row after which the machine, not the candidates, must be at fault
LEADING = 128  # candidates that may turn out to be the best once their scores are adjusted


class Tally:
    """Candidates by id. Everything else is kept up to date rather than counted anew, which would take a driver's time.

    numbers: candidate -> the optimiser's number of it. table: candidate -> objective -> its items of the search pool.
    floors: objective -> inner floor; those that hang on a parent appear with its scores.
    done: finished candidates, references not counted. items: that were scored. busy: seconds that workers spent on
    them. failures: kind -> count.
    """

    def __init__(self, setup: Setup):
        self._setup = setup
        self._failed_in_a_row = 0
        self.known: dict[int, Candidate] = {}
        self.numbers: dict[int, int] = {}
        self.table: dict[int, Mapping[str, ItemScores]] = {}
        self.floors = floors_of(setup.objectives, setup.relative_floors, {})
        self.failures: dict[str, int] = {}
        self.done = self.items = 0
        self.busy = 0.0
        self._leading: list[tuple[float, int]] = []  # heap of (fitness, -candidate)

    @property
    def leading(self) -> dict[int, Mapping[str, ItemScores]]:
        """The part of the table that tells who is ahead: the references, and the candidates of the best raw fitness."""
        kept = {-number for _, number in self._leading}
        return {each: items for each, items in self.table.items() if each in kept or each not in self.numbers}

    def read(self, ledger: Ledger) -> None:
        """Take over what a ledger says."""
        self.known = {each.id: each for each in ledger.candidates()}
        self.numbers = {step.candidate: step.number for step in ledger.steps() if step.kind == "ask"}
        items = ledger.items("search")
        for each in self.known.values():
            if each.state != "running":
                self._count(each, items.get(each.id))

    def ask(self, candidate: Candidate, number: int) -> None:
        """Note a new candidate."""
        self.known[candidate.id], self.numbers[candidate.id] = candidate, number

    def finish(self, candidate: Candidate, items: Mapping[str, ItemScores] | None) -> None:
        """Note a candidate that was scored or has failed."""
        self.known[candidate.id] = candidate
        self._count(candidate, items)

    def _count(self, candidate: Candidate, items: Mapping[str, ItemScores] | None) -> None:
        if items is not None:
            self.table[candidate.id] = items
            self.items += sum(len(scores.ids) for scores in items.values())
            self.busy += candidate.seconds or 0.0
            if candidate.id in self.numbers:
                value = fitness(self._setup.objectives, values_of(candidate.scores["search"]), self.floors)
                keep = heapq.heappush if len(self._leading) < LEADING else heapq.heappushpop
                keep(self._leading, (value, -candidate.id))
        self.done += candidate.id in self.numbers
        if candidate.failure is not None:
            self.failures[candidate.failure.kind] = self.failures.get(candidate.failure.kind, 0) + 1
        if candidate.kind == "parent":
            scores = parent_scores(self.known.values(), "search")
            self.floors = floors_of(self._setup.objectives, self._setup.relative_floors, scores)

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
