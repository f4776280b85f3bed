"""The control: a random search of the same space with as many items, whose best candidate the pick must beat.

What an optimizer finds may be there for anybody who tries as many recipes. The control draws uniform points, scores
them all on one subset of the search items until it has spent what the search's own candidates did (an item with a
backward pass as three), and its best are re-scored like finalists. Points are a function of the run's seed and their
number alone, so that the control resumes where it was.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from evomerge.optimizers import create
from evomerge.recipe import fingerprint_of
from evomerge.records import Candidate
from evomerge.run._objectives import scores_of
from evomerge.run._progress import Observer, Progress
from evomerge.run.loop._loop import WAIT_SECONDS, Deadline, SearchLoop
from evomerge.run.loop._state import MAX_CONSECUTIVE_FAILURES, MAX_CONSECUTIVE_REPEATS, finished_candidate
from evomerge.run.loop._subsets import CONTROL_SUBSET, Subsets
from evomerge.run.loop._utilization import COST
from evomerge.run.workers import Job, Outcome

CONTROL = "control"  # the ledger's fact: what the control has done so far
_STREAM = 0xC0  # of the run's seed: the control's points are not those of an optimizer named "random"


class ControlSearch:
    """Scores random candidates until as many items are spent as by the search's own candidates."""

    def __init__(self, loop: SearchLoop, *, observer: Observer, stop: Callable[[], bool]):
        """Continue the control of a search.

        Args:
            loop: whose search has ended.
            observer: hears of progress.
            stop: whether a stop was requested.
        """
        self._loop, self._observer, self._stop = loop, observer, stop
        self._setup, self._ledger, self._executor = loop.setup, loop.ledger, loop.executor
        pools, seed = self._setup.prepared.pools, self._setup.entry.seed
        self._subset = Subsets(pools, self._setup.control_items, "fixed", seed).items(CONTROL_SUBSET)
        known = [candidate for candidate in self._ledger.candidates(kinds=["control"]) if candidate.from_control]
        self._items = sum(score.n for candidate in known for score in candidate.scores.get("search", {}).values())
        self._scored = sum(candidate.state == "scored" for candidate in known)
        self._repeats = self._failures = 0
        self._random = create(
            "random",
            self._setup.space.domain,
            objectives=1,
            seed=int(np.random.SeedSequence([seed, _STREAM]).generate_state(1)[0]),
            start=None,
            options={},
        )
        for _ in range(1 + max((candidate.generation for candidate in known), default=-1)):
            self._random.ask()
        self._queue = deque(candidate for candidate in known if candidate.state == "running")
        self._running: dict[int, Candidate] = {}

    def run(self, deadline: Deadline) -> bool:
        """Search at random; False if it was interrupted.

        Args:
            deadline: seconds of the run at which it must end.
        """
        goal = self._loop.state.items_of_candidates
        while True:
            while self._executor.free and not self._stop() and self._fill(goal, deadline):
                candidate = self._queue.popleft()
                self._running[candidate.id] = candidate
                job = Job(candidate=candidate.id, pool="search", document=candidate.recipe, items=self._subset)
                self._executor.submit(job)
            if not self._running or (self._stop() and not self._executor.workers):
                break
            for job, outcome in self._executor.wait(WAIT_SECONDS):
                self._record(self._running.pop(job.candidate), outcome)
            self._show(goal)
        if self._stop():
            return False
        with self._ledger.transaction():
            self._ledger.set_meta(CONTROL, {"items": self._items, "goal": goal, "candidates": self._scored})
        if self._items < goal:
            self._observer.say(f"the random control ended after {self._items:,} of {goal:,} items")
        return True

    def _fill(self, goal: int, deadline: Deadline) -> bool:
        """Queue a candidate if none waits; False if no more are due."""
        end = deadline()
        while not self._queue:
            spent = self._items + len(self._running) * sum(len(ids) for ids in self._subset.values())
            stuck = self._repeats >= MAX_CONSECUTIVE_REPEATS or self._failures >= MAX_CONSECUTIVE_FAILURES
            if spent >= goal or stuck or (end is not None and self._loop.seconds >= end):
                return False
            self._ask()
        return True

    def _ask(self) -> None:
        """Queue the next random candidate, unless it repeats one."""
        proposal = self._random.ask()
        document = self._setup.document(proposal.point)
        fingerprint = fingerprint_of(document)
        original = self._ledger.find_original(fingerprint, CONTROL_SUBSET)
        self._repeats = 0 if original is None else self._repeats + 1
        if original is not None:
            return
        with self._ledger.transaction(results=False):
            candidate = self._ledger.add(
                name="random {id}",
                kind="control",
                generation=proposal.number,
                subset=CONTROL_SUBSET,
                recipe=document,
                fingerprint=fingerprint,
                point=proposal.point,
            )
        self._queue.append(candidate)

    def _record(self, candidate: Candidate, outcome: Outcome) -> None:
        """Commit one result."""
        scores = None if outcome.items is None else scores_of(outcome.items)
        with self._ledger.transaction():
            self._ledger.finish(
                candidate.id,
                failure=outcome.failure,
                attempts=outcome.attempts,
                seconds=outcome.seconds,
                worker=outcome.worker,
            )
            if scores is not None and outcome.items is not None:
                self._ledger.add_scores(candidate.id, "search", scores, outcome.items)
            self._loop.cost.add("control", outcome)
            self._ledger.set_meta(COST, self._loop.cost.plain())
            self._ledger.set_meta("seconds", self._loop.seconds)
        if scores is not None:
            self._items += sum(score.n for score in scores.values())
            self._scored += 1
            self._failures = 0
        elif outcome.failure is not None:
            self._failures += 1
            self._observer.say(f"{candidate.name} {outcome.failure.kind}: {outcome.failure.reason}")
        self._loop.trackers.candidate_scored(finished_candidate(candidate, "search", outcome, scores), "search")

    def _show(self, goal: int) -> None:
        """Report progress; a job's items are the same for all of them."""
        items = sum(len(ids) for ids in self._subset.values())
        self._observer.update(
            Progress(
                phase="controlling",
                done=self._scored,
                planned=max(self._scored, -(-goal // items)),
                running=len(self._running),
                workers=self._executor.workers,
                seconds=self._loop.seconds,
            )
        )
