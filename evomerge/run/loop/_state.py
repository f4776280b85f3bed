"""What a search has so far: its candidates, their items, and the sums that budgets and reports need all the time."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace

from evomerge.errors import EvomergeError
from evomerge.records import Candidate, Failure, ItemScores, Pool, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, floors_of, parent_scores, values_of
from evomerge.run._pace import JobPace
from evomerge.run.config._setup import Setup
from evomerge.run.loop._references import all_failed
from evomerge.run.workers import Outcome

MAX_CONSECUTIVE_FAILURES = 30  # after so many the machine, not the candidates, must be at fault
MAX_CONSECUTIVE_REPEATS = 500  # proposals that were scored before; after so many in a row the space is used up
REPEAT_GENERATIONS = 4  # at least so many generations of them: one generation may well repeat the one before
GRADIENT_COST = 3  # items that an item with a backward pass counts as: about three forward passes
MAX_LEADING = 128  # candidates that may turn out to be the best once their scores are adjusted
MAX_LATEST = 256  # candidates whose items tell how hard a new subset is; more would only take more time


def finished_candidate(candidate: Candidate, pool: Pool, outcome: Outcome, scores: Scores | None) -> Candidate:
    """Return a candidate with what a job gave.

    Args:
        candidate: that was scored.
        pool: of the job.
        outcome: what the worker answered.
        scores: on the pool, beside those that the candidate had; None = it failed.
    """
    return replace(
        candidate,
        state=outcome.failure.kind if outcome.failure else "scored",
        failure=outcome.failure,
        seconds=outcome.seconds,
        worker=outcome.worker,
        scores=candidate.scores if scores is None else {**candidate.scores, pool: scores},
    )


class SearchState:
    """What a driver needs of its candidates all the time, kept up to date; most recipes and items stay on disk.

    Attributes:
        known: id -> references, and the candidates that are not finished.
        numbers: candidate -> the optimizer's number of it.
        table: candidate -> objective -> its items of the search pool, of `latest` and `leading`.
        floors: objective -> internal floor; those relative to a parent appear with its scores.
        failures: kind -> count.
        done: finished candidates, references not counted.
        scored: candidates and references with scores.
        items: items that were scored, repeats included; one with a backward pass counts as `GRADIENT_COST` items.
        items_of_candidates: those of them that were no reference's.
        busy: seconds that workers spent on scored ones.
        pace: how long jobs take.
        with_gradient: candidates that were scored with a backward pass.
        repeats: proposals in a row, up to the last, that repeat a finished candidate.
        recipe_count: of the space, if it is known and every candidate is scored on the same items; else None.
    """

    def __init__(self, setup: Setup):
        self._setup = setup
        same_items = setup.entry.subset.policy == "fixed" and not setup.adaptive_subsets
        self.recipe_count = setup.space.recipe_count if same_items else None
        self._recipes: set[str] = set()
        self._failed_in_a_row = 0
        self.known: dict[int, Candidate] = {}
        self.numbers: dict[int, int] = {}
        self.with_gradient: set[int] = set()
        self.table: dict[int, Mapping[str, ItemScores]] = {}
        self.floors = floors_of(setup.objectives, setup.relative_floors, {})
        self.failures: dict[str, int] = {}
        self.done = self.scored = self.items = self.items_of_candidates = self.repeats = 0
        self.busy = 0.0
        self.pace = JobPace()
        self._leading: list[tuple[float, int]] = []  # heap of (fitness, -candidate)
        self._latest: list[int] = []  # heap

    @property
    def leading(self) -> dict[int, Mapping[str, ItemScores]]:
        """The items of the references, and of the candidates of the best raw fitness."""
        return self._items_of(sorted(-number for _, number in self._leading))

    @property
    def latest(self) -> dict[int, Mapping[str, ItemScores]]:
        """The items of the references, and of the last candidates that were scored."""
        return self._items_of(sorted(self._latest))

    def _items_of(self, candidates: Iterable[int]) -> dict[int, Mapping[str, ItemScores]]:
        references = (identity for identity in self.table if identity not in self.numbers)
        return {identity: self.table[identity] for identity in (*references, *candidates)}

    @property
    def references(self) -> list[Candidate]:
        """The references, as far as they are finished or not."""
        return [known for identity, known in self.known.items() if identity not in self.numbers]

    @property
    def reference_counts(self) -> tuple[int, int]:
        """How many references are finished, and how many there are."""
        return sum(reference.state != "running" for reference in self.references), len(self.references)

    @property
    def references_finished(self) -> bool:
        """Whether every reference was scored or has failed."""
        return all(reference.state != "running" for reference in self.references)

    def retry_references(self) -> None:
        """Take references of which none could be scored for unfinished: what stopped the run may be corrected."""
        if self.references and all_failed(self.references):
            for reference in self.references:
                self.known[reference.id] = replace(reference, state="running", failure=None)
                self.failures["failed"] -= 1

    def read(self, ledger: Ledger) -> None:
        """Take over what a ledger contains."""
        steps = ledger.steps()
        self.numbers = {step.candidate: step.number for step in steps if step.kind == "ask"}
        self.with_gradient = {step.candidate for step in steps if step.kind == "gradient"}
        for candidate in ledger.each_candidate():
            if candidate.from_control:
                continue
            self.known[candidate.id] = candidate
            if candidate.state != "running":
                scored = "search" in candidate.scores
                self.finish(candidate, ledger.items_of(candidate.id, "search") if scored else None)
        self.repeats = ledger.repeats_at_end()
        self._recipes = ledger.fingerprints()

    def add_references(self, references: Iterable[Candidate]) -> None:
        """Note the references of a new run."""
        self.known.update({reference.id: reference for reference in references})

    def ask(self, candidate: Candidate, number: int, fingerprint: str, *, repeated: bool) -> None:
        """Note a new candidate, the fingerprint of its recipe, and whether it repeats a finished one."""
        self.known[candidate.id], self.numbers[candidate.id] = candidate, number
        self.repeats = self.repeats + 1 if repeated else 0
        if self.recipe_count is not None:
            self._recipes.add(fingerprint)

    def used_up(self, generation_size: int) -> str:
        """Return why no recipe is left to be scored, or "" while there may be some.

        Either all that the space counts were requested, or so many proposals in a row repeat that hardly any are left.
        """
        if self.recipe_count is not None and len(self._recipes) >= self.recipe_count:
            return f"all its {self.recipe_count} recipes were scored or refused"
        if self.repeats >= max(MAX_CONSECUTIVE_REPEATS, REPEAT_GENERATIONS * generation_size):
            return f"the last {self.repeats} proposals repeat recipes that were scored or refused before"
        return ""

    def finish(self, candidate: Candidate, items: Mapping[str, ItemScores] | None) -> None:
        """Note a candidate that was scored or has failed.

        Args:
            candidate: with its scores, or its failure.
            items: objective -> its items of the search pool; None for a failure.
        """
        self.known[candidate.id] = candidate
        if items is not None:
            self.table[candidate.id] = items
            self.scored += 1
            count = sum(len(scores.ids) for scores in items.values())
            count *= GRADIENT_COST if candidate.id in self.with_gradient else 1
            self.items += count
            self.items_of_candidates += count if candidate.id in self.numbers else 0
            self.busy += candidate.seconds or 0.0
            self.pace.add(candidate.worker or "", count, candidate.seconds or 0.0)
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
        """Drop the items of candidates that are neither among the latest nor among the leading any longer."""
        value = fitness(self._setup.objectives, values_of(candidate.scores["search"]), self.floors)
        dropped = {candidate.id}
        heapq.heappush(self._leading, (value, -candidate.id))
        heapq.heappush(self._latest, candidate.id)
        if len(self._leading) > MAX_LEADING:
            dropped.add(-heapq.heappop(self._leading)[1])
        if len(self._latest) > MAX_LATEST:
            dropped.add(heapq.heappop(self._latest))
        for identity in dropped.difference(self._latest, (-number for _, number in self._leading)):
            self.table.pop(identity, None)

    def check_failure_streak(self, failure: Failure | None, generation_size: int) -> None:
        """Count failures in a row.

        Args:
            failure: of the last finished candidate, or None.
            generation_size: of the optimizer; two generations may fail before the run ends.

        Raises:
            EvomergeError: so many failed that the candidates cannot be the reason.
        """
        self._failed_in_a_row = 0 if failure is None else self._failed_in_a_row + 1
        if failure is not None and self._failed_in_a_row >= max(MAX_CONSECUTIVE_FAILURES, 2 * generation_size):
            raise EvomergeError(
                f"{self._failed_in_a_row} candidates in a row failed, so something else than the candidates is wrong; "
                f"the last reason: {failure.reason}"
            )
