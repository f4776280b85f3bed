"""The search itself: keep every worker busy, record every result before the optimizer hears of it."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from evomerge.optimizers import Optimizer
from evomerge.recipe import fingerprint_of
from evomerge.records import Candidate, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, scores_of, values_of
from evomerge.run._progress import Observer
from evomerge.run.config._setup import Setup
from evomerge.run.loop._objective_values import ObjectiveValues
from evomerge.run.loop._progress_reporter import ProgressReporter
from evomerge.run.loop._references import check_references
from evomerge.run.loop._run_optimizer import RunOptimizer
from evomerge.run.loop._state import SearchState, finished_candidate
from evomerge.run.loop._subset_sizes import SubsetSizes
from evomerge.run.loop._subsets import REFERENCE_SUBSET, WHOLE_POOL, Subsets
from evomerge.run.loop._utilization import COST, CostMeter, UtilizationMeter
from evomerge.run.trackers import Trackers
from evomerge.run.workers import Executor, Job, Outcome

ASK_BATCH = 4  # new candidates committed together before their workers start; such a commit need not reach the disk
WAIT_SECONDS = 0.5  # longest sleep before the budget and Ctrl-C are looked at again
WORKERS_PER_PREFETCH = 32  # for each candidate requested in advance: a freed worker waits neither for disk nor others
RECORD_BATCH = 16  # results committed together: few enough that freed workers need not wait, enough to share the commit
SIZES = "subset_sizes"  # the ledger's fact: how the sizes of subsets are chosen

Deadline = Callable[[], float | None]  # seconds of the run at which the search must end, None = never


class _Finished(NamedTuple):
    """A result that was recorded.

    Attributes:
        candidate: that was scored.
        outcome: what the worker answered.
        scores: None = it failed.
        values: what the optimizer learns of it; None = it failed.
        gradient: the derivative by each real gene; None = there is none.
    """

    candidate: Candidate
    outcome: Outcome
    scores: Scores | None
    values: tuple[float, ...] | None
    gradient: tuple[float, ...] | None


class SearchLoop:
    """Asks, scores, records and tells until the budget is spent, the space is used up or a stop is requested.

    Attributes:
        setup: the checked search.
        ledger: of the run, open for writing.
        executor: the workers.
        subsets: the items of each generation.
        state: what the search has so far.
        cost: what has been spent.
        trackers: hear of every result, after the commit.
    """

    def __init__(
        self,
        setup: Setup,
        ledger: Ledger,
        executor: Executor,
        *,
        observer: Observer,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        trackers: Trackers | None = None,
    ):
        """Prepare a loop; `restore` brings it to where the ledger stands.

        Args:
            setup: the checked search.
            ledger: of the run, open for writing.
            executor: the workers.
            observer: hears of progress.
            stop: whether a stop was requested.
            clock: seconds that only grow.
            trackers: hear of every result, after the commit.
        """
        self.setup, self.ledger, self.executor = setup, ledger, executor
        self.trackers = trackers or Trackers()
        self.observer, self._stop, self._clock = observer, stop, clock
        self._said: set[str] = set()
        entry = setup.entry
        sizes = ledger.meta(SIZES, {})
        changes = [(first, size) for first, size in sizes.get("changes", [])]
        self.subsets = Subsets(setup.prepared.pools, setup.subset_items, entry.subset.policy, entry.seed, changes)
        self._sizes = SubsetSizes(self.subsets, sizes) if setup.adaptive_subsets else None
        self._started = clock()
        self._before = float(ledger.meta("seconds", 0.0))
        self._queue: deque[Job] = deque()
        self._running: set[int] = set()
        self.cost = CostMeter(ledger.meta(COST, {}))
        self._utilization = UtilizationMeter(ledger.meta("busy", {}))
        self.state = SearchState(setup)
        self._proposer = RunOptimizer(setup, ledger, observer)
        self._objective_values = ObjectiveValues(setup, ledger, self.subsets, self.state)
        self._reporter = ProgressReporter(setup, observer, clock, self.trackers)

    # -- starting and resuming -----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring the queues to where the ledger says the run stands."""
        self.state.read(self.ledger)
        self._proposer.restore(self.state)
        self._reporter.already = self.state.done
        if not self.state.known:
            self._add_references()
        self.state.retry_references()
        running = [known for known in self.state.known.values() if known.state == "running" and known.kind != "mean"]
        repeats: list[tuple[Job, Outcome]] = []
        for candidate in running:
            original = self.ledger.original_of(candidate.id)
            if original is None:
                self._queue.append(self._job(candidate))
            else:
                repeats.append((self._job(candidate), self._outcome_of(original)))
        self._record(repeats)

    @property
    def optimizer(self) -> Optimizer:
        """What proposes candidates. An informed one exists when the references are scored."""
        if self._proposer.optimizer is None:
            self._choose_start()
        assert self._proposer.optimizer is not None
        return self._proposer.optimizer

    def _choose_start(self) -> None:
        with self.ledger.transaction():
            self._objective_values.calibrate(self.state.latest.values())
            self._proposer.choose_start(self.state.known.values(), self.state.floors)

    @property
    def _waits_for_references(self) -> bool:
        """Whether an informed optimizer is still without what it needs to start."""
        return self._proposer.optimizer is None and any(known.state == "running" for known in self.state.known.values())

    def _add_references(self) -> None:
        with self.ledger.transaction():
            for reference in self.setup.references:
                self.ledger.add(
                    name=reference.name,
                    kind=reference.kind,
                    generation=-1,
                    subset=REFERENCE_SUBSET if self.setup.few_for_references else WHOLE_POOL,
                    recipe=reference.document,
                    fingerprint=self.setup.recipe(reference.document).fingerprint,
                )
        self.state.add_references(self.ledger.candidates())

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, deadline: Deadline) -> None:
        """Search until the budget is spent, the deadline has passed, the space is used up or a stop is requested."""
        with _short_collections():
            self._run(deadline)
        if (reason := self._used_up) and not self._stop():
            self.observer.say(f"the space is used up: {reason}, so the search ends here and the proof follows")

    def _run(self, deadline: Deadline) -> None:
        while True:
            self._fill(deadline)
            self._reporter.update(
                self.state,
                running=len(self._running),
                workers=self.executor.workers,
                seconds=self.seconds,
                end=deadline(),
            )
            if not self._running and (self._stop() or (not self._queue and self._spent(deadline))):
                return
            if self._stop() and not self.executor.workers:
                return  # the queue stays in the ledger; waiting for workers to come up could take forever
            results = self.executor.wait(WAIT_SECONDS)
            self._utilization.tick(self.seconds, self.executor.workers)
            if not self._stop():
                self._start()
            for start in range(0, len(results), RECORD_BATCH):
                freed = results[start : start + RECORD_BATCH]
                self._record(freed)
                self._fill(deadline, len(freed))  # the others' workers get theirs when their results are recorded

    def _start(self) -> None:
        """Give free workers what is queued."""
        for _ in range(min(len(self._queue), self.executor.free)):
            job = self._queue.popleft()
            self._utilization.begin(self.seconds)
            self._running.add(job.candidate)
            self.executor.submit(job)

    def _fill(self, deadline: Deadline, most: int | None = None) -> None:
        """Give free workers a job while the budget lasts.

        Args:
            deadline: of the search.
            most: workers to serve; None = all, and some candidates are asked in advance, too.
        """
        if self._stop():
            return
        self._start()
        if self._waits_for_references:
            return
        if self._proposer.optimizer is None:
            self._choose_start()
        left = self.executor.free if most is None else min(most, self.executor.free)
        while left > 0 and not self._stop():
            if not self._ask_some(min(left, ASK_BATCH), deadline):
                return
            left -= len(self._queue)
            self._start()  # even if a stop was requested meanwhile: a free worker finishes what was requested for it
        prefetch = self._prefetch(deadline) - len(self._queue)
        if most is None and prefetch > 0 and not self._stop():
            self._ask_some(prefetch, deadline)

    def _prefetch(self, deadline: Deadline) -> int:
        """Return how many candidates may wait for a worker; none where those being scored may be the budget's last."""
        budget, end, scored = self.setup.entry.budget, deadline(), self.state.scored
        if not scored:
            return 0
        unscored = len(self.state.numbers) - self.state.done
        expected = self.state.items * (1 + unscored / scored) + self.cost.lost_items("search")
        if budget.items is not None and expected >= budget.items:
            return 0
        if end is not None and self.seconds + 2 * self.state.busy / scored >= end:
            return 0
        return self.executor.workers // WORKERS_PER_PREFETCH

    def _ask_some(self, count: int, deadline: Deadline) -> bool:
        """Queue new candidates, except those that repeat a finished one; False if the budget allows for none."""
        repeats: list[tuple[Job, Outcome]] = []
        asked = 0
        with self.ledger.transaction(results=False):  # one commit for all: hundreds of workers can ask at once
            while asked < count and not self._spent(deadline):
                job, known = self._ask()
                asked += 1
                if known is None:
                    self._queue.append(job)
                else:
                    repeats.append((job, known))
        self._record(repeats)
        return asked > 0

    def _spent(self, deadline: Deadline) -> bool:
        """Return whether no more candidates may be requested."""
        if self._waits_for_references:
            return False
        if self._used_up:
            return True
        budget = self.setup.entry.budget
        end = deadline()
        if end is not None and self.seconds >= end:
            return True
        if budget.candidates is not None and len(self.state.numbers) >= budget.candidates:
            return True
        return budget.items is not None and self.state.items + self.cost.lost_items("search") >= budget.items

    @property
    def _used_up(self) -> str:
        return self.state.used_up(self._proposer.generation_size)

    @property
    def seconds(self) -> float:
        """Seconds of this run, earlier sessions included."""
        return self._before + self._clock() - self._started

    def _ask(self) -> tuple[Job, Outcome | None]:
        """Add a new candidate; with an outcome if it repeats a finished one, whose scores or failure it takes."""
        proposal = self._proposer.ask()
        document = self.setup.document(proposal.point)
        subset = self.subsets.number(proposal.generation)
        if self._sizes is not None:
            self._sizes.ask(proposal.generation, gradient=proposal.gradient)
            self.ledger.set_meta(SIZES, self._sizes.plain())
        fingerprint = fingerprint_of(document)
        # The outcome of another candidate has no gradient.
        original = None if proposal.gradient else self.ledger.find_original(fingerprint, subset)
        candidate = self.ledger.add(
            name="candidate {id}",
            kind="candidate",
            generation=proposal.generation,
            subset=subset,
            recipe=document,
            fingerprint=fingerprint,
            point=proposal.point,
            number=proposal.number,
            duplicate_of=original,
        )
        self.state.ask(candidate, proposal.number, fingerprint, repeated=original is not None)
        return self._job(candidate), None if original is None else self._outcome_of(original)

    def _outcome_of(self, original: int) -> Outcome:
        """Return the outcome of a finished candidate as that of one that repeats it: no attempt, no time."""
        failure = self.ledger.failure_of(original)
        items = None if failure else self.ledger.items_of(original, "search")
        return Outcome(items=items, failure=failure, seconds=0.0, worker=f"same as {original}", attempts=0)

    def _job(self, candidate: Candidate) -> Job:
        items = self.subsets.items(candidate.subset)
        gradient = self._proposer.directions(self.state.numbers.get(candidate.id))
        job = Job(candidate=candidate.id, pool="search", document=candidate.recipe, items=items)
        gold = {objective.name: objective.weight for objective in self.setup.objectives}
        return replace(job, gradient=gradient, gold=gold) if gradient else job

    # -- results -------------------------------------------------------------------------------------------------

    def _record(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Commit results, all in one transaction; only then tell the optimizer, in the same order."""
        if not results:
            return
        with self.ledger.transaction():
            finished = [self._write(self.state.known[job.candidate], outcome) for job, outcome in results]
            self.ledger.set_meta("seconds", self.seconds)
            self.ledger.set_meta("busy", self._utilization.plain())
            self.ledger.set_meta(COST, self.cost.plain())
            if self._sizes is not None:
                self.ledger.set_meta(SIZES, self._sizes.plain())
        for result in finished:
            if result.candidate.id in self.state.numbers:
                number, items = self.state.numbers[result.candidate.id], result.outcome.items
                self._proposer.tell(number, result.values, result.gradient, items)
            self._remember(result)

    def _write(self, candidate: Candidate, outcome: Outcome) -> _Finished:
        """Write one result to the ledger. A repeat has no items of its own there: they are those of the original."""
        self._utilization.spent(outcome.seconds)
        self.cost.add("search", outcome)
        scores = scores_of(outcome.items) if outcome.items is not None else None
        number = self.state.numbers.get(candidate.id)
        values = self._objective_values.of(candidate, scores, outcome.items if number is not None else None)
        self.ledger.finish(
            candidate.id,
            failure=outcome.failure,
            attempts=outcome.attempts,
            seconds=outcome.seconds,
            worker=outcome.worker,
        )
        if scores is not None and outcome.items is not None:
            self.ledger.add_scores(candidate.id, "search", scores, outcome.items if outcome.attempts else {})
        gradient = self._proposer.gradient(outcome.gradient, candidate.point)
        if outcome.no_gradient:
            self._proposer.say_no_gradient(outcome.no_gradient)
        for note in sorted(set(outcome.notes) - self._said):
            self.observer.say(note)
        self._said.update(outcome.notes)
        if number is not None:
            if gradient is not None:
                self.state.with_gradient.add(candidate.id)
                self.ledger.tell_gradient(candidate.id, number, gradient)
            self.ledger.tell(candidate.id, number, values)
            if self._sizes is not None:
                halves = None if outcome.items is None else self._objective_values.halves(outcome.items)
                self._sizes.finish(candidate.generation, halves)
        return _Finished(candidate, outcome, scores, values, gradient)

    def _remember(self, result: _Finished) -> None:
        """Bring the state up to date; say what failed."""
        candidate, outcome, scores = result.candidate, result.outcome, result.scores
        self._running.discard(candidate.id)
        finished = finished_candidate(candidate, "search", outcome, scores)
        self.state.finish(finished, outcome.items)
        self.trackers.candidate_scored(finished, "search")
        if scores is not None:
            value = fitness(self.setup.objectives, values_of(scores), self.state.floors)
            self._reporter.last = f"{candidate.name} {value:.3f} in {outcome.seconds:.1f} s"
        elif outcome.failure is not None and outcome.attempts:
            self._reporter.last = f"{candidate.name} {outcome.failure.kind}: {outcome.failure.reason}"
            self.observer.say(self._reporter.last)
        if candidate.id not in self.state.numbers and self.state.references_finished:
            check_references(self.state.references, self.setup, self.ledger, self.observer)
        if outcome.attempts:  # a repeat says nothing new of the machine
            self.state.check_failure_streak(outcome.failure, self._proposer.generation_size)


@contextmanager
def _short_collections() -> Iterator[None]:
    """Keep what is loaded by now out of garbage collections: with torch and lm-eval, each takes a fifth of a second."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
