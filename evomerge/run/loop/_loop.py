"""The search itself: keep every worker busy, record every result before the optimizer hears of it."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from evomerge.recipe import fingerprint_of
from evomerge.records import Candidate, Scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, scores_of, values_of
from evomerge.run._progress import Observer
from evomerge.run.config._setup import Setup
from evomerge.run.loop._objective_values import ObjectiveValues
from evomerge.run.loop._progress_reporter import ProgressReporter
from evomerge.run.loop._resume import restored_optimizer
from evomerge.run.loop._state import SearchState
from evomerge.run.loop._subsets import WHOLE, Subsets
from evomerge.run.loop._utilization import UtilizationMeter
from evomerge.run.trackers import Trackers
from evomerge.run.workers._protocol import Executor, Job, Outcome

ASKS = 4  # new candidates committed together before their workers start; such a commit need not reach the disk
WAIT_SECONDS = 0.5  # longest sleep before the budget and Ctrl-C are looked at again
WORKERS_PER_WAITING = 32  # workers for each candidate asked for ahead: who is freed waits neither for disk nor others
BATCH = 16  # results committed together: few enough that freed workers need not wait, enough to share the commit


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
        trackers: Trackers | None = None,
    ):
        self.setup, self.ledger, self.executor = setup, ledger, executor
        self.trackers = trackers or Trackers()
        self.observer, self._stop, self._clock = observer, stop, clock
        entry = setup.entry
        self.subsets = Subsets(setup.prepared.pools, entry.subset.size, entry.subset.policy, entry.seed)
        self.optimizer = restored_optimizer(setup, ledger, observer)
        self._started = clock()
        self._before = float(ledger.meta("seconds", 0.0))
        self._queue: deque[Job] = deque()
        self._running: set[int] = set()
        self._busy = UtilizationMeter(ledger.meta("busy", {}))
        self.tally = SearchState(setup)
        self._telling = ObjectiveValues(setup, ledger, self.optimizer, self.subsets, self.tally)
        self._watch = ProgressReporter(setup, observer, clock, self.trackers)

    # -- starting and resuming -----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Bring the queues to where the ledger says the run stands."""
        self.tally.read(self.ledger)
        self._watch.already = self.tally.done
        if not self.tally.known:
            self._add_references()
        running = [each for each in self.tally.known.values() if each.state == "running" and each.kind != "mean"]
        self._queue.extend(self._job(each) for each in running)

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
        self.tally.known = {each.id: each for each in self.ledger.candidates()}

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, deadline: Callable[[], float | None]) -> None:
        """Search until the budget is spent, deadline() (seconds of the run) has passed or stop() says so."""
        with _short_collections():
            self._run(deadline)

    def _run(self, deadline: Callable[[], float | None]) -> None:
        while True:
            self._fill(deadline)
            self._watch.show(
                self.tally,
                running=len(self._running),
                workers=self.executor.workers,
                seconds=self.seconds,
                end=deadline(),
            )
            if not self._running and (self._stop() or (not self._queue and self._spent(deadline))):
                return
            if self._stop() and not self.executor.workers:
                return  # what is asked for stays so in the ledger; waiting for workers to come up could take for ever
            results = self.executor.wait(WAIT_SECONDS)
            self._busy.tick(self.seconds, self.executor.workers)
            if not self._stop():
                self._start()
            for start in range(0, len(results), BATCH):
                freed = results[start : start + BATCH]
                self._record(freed)
                self._fill(deadline, len(freed))  # the others' workers get theirs when their results are told

    def _start(self) -> None:
        """Give free workers what is asked for already."""
        for _ in range(min(len(self._queue), self.executor.free)):
            job = self._queue.popleft()
            self._busy.begin(self.seconds)
            self._running.add(job.candidate)
            self.executor.submit(job)

    def _fill(self, deadline: Callable[[], float | None], most: int | None = None) -> None:
        """Give free workers (at most `most`) a job while the budget lasts; without `most`, ask for some ahead, too."""
        if self._stop():
            return
        self._start()
        left = self.executor.free if most is None else min(most, self.executor.free)
        while left > 0 and not self._stop():
            if not self._ask_some(min(left, ASKS), deadline):
                return
            left -= len(self._queue)
            self._start()  # whoever has said stop meanwhile: a free worker finishes what was asked for it
        ahead = self._ahead(deadline) - len(self._queue)
        if most is None and ahead > 0 and not self._stop():
            self._ask_some(ahead, deadline)

    def _ahead(self, deadline: Callable[[], float | None]) -> int:
        """Return how many candidates may wait for a worker; none where those being scored may be the budget's last."""
        budget, end, scored = self.setup.entry.budget, deadline(), self.tally.scored
        if not scored:
            return 0
        unscored = len(self.tally.numbers) - self.tally.done
        if budget.items is not None and self.tally.items * (1 + unscored / scored) >= budget.items:
            return 0
        if end is not None and self.seconds + 2 * self.tally.busy / scored >= end:
            return 0
        return self.executor.workers // WORKERS_PER_WAITING

    def _ask_some(self, count: int, deadline: Callable[[], float | None]) -> bool:
        """Queue new candidates, but for those that repeat a scored one; False if the budget allows for none."""
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

    def _spent(self, deadline: Callable[[], float | None]) -> bool:
        budget = self.setup.entry.budget
        end = deadline()
        if end is not None and self.seconds >= end:
            return True
        if budget.candidates is not None and len(self.tally.numbers) >= budget.candidates:
            return True
        return budget.items is not None and self.tally.items >= budget.items

    @property
    def seconds_per_item(self) -> float | None:
        """Seconds that scoring one item took on average (of one worker), or None before anything was scored."""
        return self.tally.busy / self.tally.items if self.tally.items else None

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
        self.tally.ask(added, proposal.number)
        if twin is None:
            return self._job(added), None
        items = self.ledger.items_of(twin, "search")
        copied = Outcome(items=items, failure=None, seconds=0.0, worker=f"same as {twin}", attempts=0)
        return self._job(added), copied

    def _job(self, candidate: Candidate) -> Job:
        items = self.subsets.items(candidate.subset)
        return Job(candidate=candidate.id, pool="search", document=candidate.recipe, items=items)

    # -- results -------------------------------------------------------------------------------------------------

    def _record(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Commit results, all in one transaction; only then tell the optimizer, in the same order."""
        if not results:
            return
        finished = []
        with self.ledger.transaction():
            for job, outcome in results:
                self._busy.spent(outcome.seconds)
                candidate = self.tally.known[job.candidate]
                scores = scores_of(outcome.items) if outcome.items is not None else None
                finished.append((candidate, outcome, scores, self._write(candidate, outcome, scores)))
            self.ledger.set_meta("seconds", self.seconds)
            self.ledger.set_meta("busy", self._busy.plain())
        for candidate, outcome, scores, values in finished:
            if candidate.id in self.tally.numbers:
                self.optimizer.tell(self.tally.numbers[candidate.id], values)
            self._remember(candidate, outcome, scores)

    def _write(self, candidate: Candidate, outcome: Outcome, scores: Scores | None) -> tuple[float, ...] | None:
        """Write one result to the ledger and return what the optimizer will be told."""
        values = self._telling.values(candidate, scores)
        self.ledger.finish(
            candidate.id,
            failure=outcome.failure,
            attempts=outcome.attempts,
            seconds=outcome.seconds,
            worker=outcome.worker,
        )
        if scores is not None and outcome.items is not None:
            self.ledger.add_scores(candidate.id, "search", scores, outcome.items)
        if candidate.id in self.tally.numbers:
            self.ledger.tell(candidate.id, self.tally.numbers[candidate.id], values)
        return values

    def _remember(self, candidate: Candidate, outcome: Outcome, scores: Scores | None) -> None:
        self._running.discard(candidate.id)
        finished = replace(
            candidate,
            state=outcome.failure.kind if outcome.failure else "scored",
            failure=outcome.failure,
            seconds=outcome.seconds,
            worker=outcome.worker,
            scores={"search": scores} if scores is not None else {},
        )
        self.tally.finish(finished, outcome.items)
        self.trackers.candidate_scored(finished, "search")
        if scores is not None:
            value = fitness(self.setup.objectives, values_of(scores), self.tally.floors)
            self._watch.last = f"{candidate.name} {value:.3f} in {outcome.seconds:.1f} s"
        elif outcome.failure is not None:
            self._watch.last = f"{candidate.name} {outcome.failure.kind}: {outcome.failure.reason}"
            self.observer.say(self._watch.last)
        self.tally.despair(outcome.failure, self.optimizer.generation_size)


@contextmanager
def _short_collections() -> Iterator[None]:
    """Keep what is loaded by now out of garbage collections: with torch and lm-eval, each takes a fifth of a second."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
