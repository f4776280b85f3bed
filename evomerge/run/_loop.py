"""The search itself: keep every worker busy, record every result before the optimiser hears of it."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from evomerge.errors import EvomergeError
from evomerge.recipe import fingerprint_of
from evomerge.records import Candidate, Failure, ItemScores, Scores
from evomerge.run._fitness import fitness, scores_of, values_of, vector
from evomerge.run._inspect import Setup, floors_of
from evomerge.run._jobs import Executor, Job, Outcome
from evomerge.run._ledger import Ledger
from evomerge.run._progress import Observer
from evomerge.run._replay import restored_optimizer
from evomerge.run._standings import Standings
from evomerge.run._subsets import WHOLE, Subsets
from evomerge.run._watch import Watch
from evomerge.search import OPTIMIZERS

WAIT_SECONDS = 0.5  # longest sleep before the budget and Ctrl-C are looked at again
BATCH = 16  # results committed together: few enough that freed workers need not wait, enough to share the commit
HOPELESS = 30  # failures in a row after which the machine, not the candidates, must be at fault


class SearchLoop:
    """Asks, scores, records and tells until the budget is spent or somebody says stop."""

    def __init__(
        self,
        setup: Setup,
        ledger: Ledger,
        executor: Executor,
        *,
        observer: Observer,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.setup, self.ledger, self.executor = setup, ledger, executor
        self.observer, self._stop, self._clock = observer, stop, clock
        entry = setup.entry
        self.subsets = Subsets(setup.prepared.pools, entry.subset.size, entry.subset.policy, entry.seed)
        self.optimizer = restored_optimizer(setup, ledger, observer)
        self._started = clock()
        self._before = float(ledger.meta("seconds", 0.0))
        self._queue: deque[Job] = deque()
        self._running: set[int] = set()
        self._known: dict[int, Candidate] = {}
        self._table: dict[int, Mapping[str, ItemScores]] = {}
        self._numbers: dict[int, int] = {}  # candidate -> the optimiser's number of it
        self._handicaps: dict[int, dict[str, float]] = {}
        self._done = 0  # finished candidates
        self._items = 0
        self._busy = 0.0  # seconds that workers spent on scored candidates
        self._failures: dict[str, int] = {}
        self._in_a_row = 0
        self._watch = Watch(setup, observer, clock)

    # -- starting and resuming -----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring the queues to where the ledger says the run stands."""
        self._known = {each.id: each for each in self.ledger.candidates()}
        self._numbers = {step.candidate: step.number for step in self.ledger.steps() if step.kind == "ask"}
        items = self.ledger.items("search")
        for each in self._known.values():
            if each.state != "running":
                self._count(each, items.get(each.id))
        self._watch.already = self._done
        self._handicaps = {int(subset): found for subset, found in self.ledger.meta("handicaps", {}).items()}
        if not self._known:
            self._add_references()
        waiting = [each for each in self._known.values() if each.state == "running" and each.kind != "mean"]
        self._queue.extend(self._job(each) for each in waiting)

    def _add_references(self) -> None:
        with self.ledger.transaction():
            for reference in self.setup.references:
                self.ledger.add(
                    name=reference.name,
                    kind=reference.kind,
                    generation=-1,
                    subset=WHOLE,
                    recipe=reference.document,
                    fingerprint=self.setup.recipe(reference.document).fingerprint,
                )
        self._known = {each.id: each for each in self.ledger.candidates()}

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, deadline: Callable[[], float | None]) -> None:
        """Search until the budget is spent, deadline() (seconds of the run) has passed or stop() says so."""
        while True:
            self._fill(deadline)
            if not self._running:
                return
            results = self.executor.wait(WAIT_SECONDS)
            for start in range(0, len(results), BATCH):
                freed = results[start : start + BATCH]
                self._record(freed)
                self._fill(deadline, len(freed))  # the others' workers get theirs when their results are told
            self._watch.show(
                self._known,
                self._table,
                self.floors,
                done=self._done,
                running=len(self._running),
                failures=self._failures,
                seconds=self.seconds,
                end=deadline(),
            )

    def _fill(self, deadline: Callable[[], float | None], most: int | None = None) -> None:
        """Give free workers (at most `most`) a job: queued ones first, then new candidates while the budget lasts."""
        left = self.executor.free if most is None else min(most, self.executor.free)
        while left > 0 and not self._stop():
            count = min(left, BATCH)
            jobs = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
            repeats: list[tuple[Job, Outcome]] = []
            with self.ledger.transaction(results=False):  # one commit for all: hundreds of workers can ask at once
                while len(jobs) + len(repeats) < count and not self._spent(deadline):
                    job, known = self._ask()
                    if known is None:
                        jobs.append(job)
                    else:
                        repeats.append((job, known))
            if not jobs and not repeats:
                return
            self._record(repeats)
            left -= len(jobs)
            for job in jobs:
                self._running.add(job.candidate)
                self.executor.submit(job)

    def _spent(self, deadline: Callable[[], float | None]) -> bool:
        budget = self.setup.entry.budget
        end = deadline()
        if end is not None and self.seconds >= end:
            return True
        if budget.candidates is not None and len(self._numbers) >= budget.candidates:
            return True
        return budget.items is not None and self._items >= budget.items

    @property
    def seconds_per_item(self) -> float | None:
        """Seconds that scoring one item took on average (of one worker), or None before anything was scored."""
        return self._busy / self._items if self._items else None

    @property
    def seconds(self) -> float:
        """Seconds of this run, earlier sessions included."""
        return self._before + self._clock() - self._started

    def _ask(self) -> tuple[Job, Outcome | None]:
        """Add a new candidate; with an outcome if it repeats a scored one on the same items, whose scores it takes."""
        proposal = self.optimizer.ask()
        document = self.setup.space.decode(proposal.point)
        subset = self.subsets.number(proposal.generation)
        fingerprint = fingerprint_of(document)
        twin = self.ledger.twin(fingerprint, subset)
        candidate = self.ledger.add(
            name="candidate {id}",
            kind="candidate",
            generation=proposal.generation,
            subset=subset,
            recipe=document,
            fingerprint=fingerprint,
            point=proposal.point,
            number=proposal.number,
            same_as=twin,
        )
        added = Candidate(
            id=candidate,
            name=f"candidate {candidate}",
            kind="candidate",
            generation=proposal.generation,
            subset=subset,
            point=proposal.point,
            recipe=document,
            state="running",
        )
        self._known[candidate], self._numbers[candidate] = added, proposal.number
        if twin is None:
            return self._job(added), None
        copied = Outcome(items=self._table[twin], failure=None, seconds=0.0, worker=f"same as {twin}", attempts=0)
        return self._job(added), copied

    def _job(self, candidate: Candidate) -> Job:
        items = self.subsets.items(candidate.subset)
        return Job(candidate=candidate.id, pool="search", document=candidate.recipe, items=items)

    # -- results -------------------------------------------------------------------------------------------------

    def _record(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Commit results, all in one transaction; only then tell the optimiser, in the same order."""
        if not results:
            return
        finished = []
        with self.ledger.transaction():
            for job, outcome in results:
                candidate = self._known[job.candidate]
                scores = scores_of(outcome.items) if outcome.items is not None else None
                finished.append((candidate, outcome, scores, self._write(candidate, outcome, scores)))
            if self._handicaps:  # estimated once, so a resumed run must not estimate them anew from more scores
                self.ledger.set_meta("handicaps", {str(subset): found for subset, found in self._handicaps.items()})
            self.ledger.set_meta("seconds", self.seconds)
        for candidate, outcome, scores, values in finished:
            if candidate.id in self._numbers:
                self.optimizer.tell(self._numbers[candidate.id], values)
            self._remember(candidate, outcome, scores)

    def _write(self, candidate: Candidate, outcome: Outcome, scores: Scores | None) -> tuple[float, ...] | None:
        """Write one result to the ledger and return what the optimiser will be told."""
        values = self._told(candidate, scores)
        self.ledger.finish(
            candidate.id,
            failure=outcome.failure,
            attempts=outcome.attempts,
            seconds=outcome.seconds,
            worker=outcome.worker,
        )
        if scores is not None and outcome.items is not None:
            self.ledger.add_scores(candidate.id, "search", scores, outcome.items)
        if candidate.id in self._numbers:
            self.ledger.tell(candidate.id, self._numbers[candidate.id], values)
        return values

    def _told(self, candidate: Candidate, scores: Scores | None) -> tuple[float, ...] | None:
        """Return what the optimiser is told: one fitness, or a value for each objective."""
        if scores is None:
            return None
        values = values_of(scores)
        if not OPTIMIZERS[self.optimizer.name].scalar:
            for name, handicap in self._handicap(candidate).items():
                values[name] += handicap
        floors = self.floors()
        if self.optimizer.objectives == 1:
            return (fitness(self.setup.objectives, values, floors),)
        return vector(self.setup.objectives, values, floors)

    def _handicap(self, candidate: Candidate) -> dict[str, float]:
        """Return the subset's handicap, estimated once, when its first candidate comes back."""
        if candidate.subset not in self._handicaps:
            standings = Standings(self.setup.objectives, self._table, {})
            self._handicaps[candidate.subset] = standings.handicap(self.subsets.items(candidate.subset))
        return self._handicaps[candidate.subset]

    def floors(self) -> dict[str, float]:
        """Return the floors that are known by now; those that hang on a parent need its scores."""
        parents = {
            each.name: values_of(each.scores["search"])
            for each in self._known.values()
            if each.kind == "parent" and "search" in each.scores
        }
        return floors_of(self.setup, parents)

    def _remember(self, candidate: Candidate, outcome: Outcome, scores: Scores | None) -> None:
        self._running.discard(candidate.id)
        self._known[candidate.id] = replace(
            candidate,
            state=outcome.failure.kind if outcome.failure else "scored",
            failure=outcome.failure,
            seconds=outcome.seconds,
            scores={"search": scores} if scores is not None else {},
        )
        self._count(self._known[candidate.id], outcome.items)
        self._count_failures(candidate, outcome.failure)
        if scores is not None:
            value = fitness(self.setup.objectives, values_of(scores), self.floors())
            self._watch.last = f"{candidate.name} {value:.3f} in {outcome.seconds:.1f} s"
        elif outcome.failure is not None:
            self._watch.last = f"{candidate.name} {outcome.failure.kind}: {outcome.failure.reason}"
            self.observer.say(self._watch.last)

    def _count_failures(self, candidate: Candidate, failure: Failure | None) -> None:
        self._in_a_row = 0 if failure is None else self._in_a_row + 1
        if failure is not None and self._in_a_row >= max(HOPELESS, 2 * self.optimizer.generation_size):
            raise EvomergeError(
                f"{self._in_a_row} candidates in a row failed, so something else than the candidates is wrong; "
                f"the last reason: {failure.reason}"
            )

    def _count(self, candidate: Candidate, items: Mapping[str, ItemScores] | None) -> None:
        """Keep the sums that budgets and the view ask for many times a second."""
        if items is not None:
            self._table[candidate.id] = items
            self._items += sum(len(scores.ids) for scores in items.values())
            self._busy += candidate.seconds or 0.0
        self._done += candidate.id in self._numbers
        if candidate.failure is not None:
            self._failures[candidate.failure.kind] = self._failures.get(candidate.failure.kind, 0) + 1
