"""The proof: finalists and references on unseen items, the pick, and the verdict."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import NothingScored
from evomerge.optimizers import Optimizer
from evomerge.records import Candidate, Kind, Pool
from evomerge.run._floors import floors_of, parent_scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import (
    factor,
    fitness,
    scores_of,
    shortfall,
    values_of,
)
from evomerge.run._progress import Observer, Phase, Progress
from evomerge.run._ranking import Ranking, front_members
from evomerge.run.config._setup import Setup
from evomerge.run.loop._loop import WAIT_SECONDS, SearchLoop
from evomerge.run.workers._protocol import Executor, Job, Outcome
from evomerge.stats import (
    Comparison,
    Verdict,
    paired_interval,
    verdict,
)

REFERENCE_KINDS: tuple[Kind, ...] = ("parent", "simple", "control")


class Proof:
    """Runs the select and report pools once each; every step is in the ledger, so it resumes like the search."""

    def __init__(self, loop: SearchLoop, *, observer: Observer, stop: Callable[[], bool]):
        self.setup: Setup = loop.setup
        self.ledger: Ledger = loop.ledger
        self.executor: Executor = loop.executor
        self.optimizer: Optimizer = loop.optimizer
        self._loop, self._observer, self._stop = loop, observer, stop

    def run(self) -> bool:
        """Prove the result; False if it was interrupted.

        Raises:
            NothingScored: no candidate has a score.
        """
        self._name_finalists()
        finalists = [*self.ledger.meta("finalists"), *(each.id for each in self._references())]
        if not self._score("selecting", "select", finalists):
            return False
        self._choose()
        chosen = self.ledger.meta("comparators")
        wanted = [self.ledger.meta("pick"), *(c["id"] for c in chosen)]
        if self.setup.entry.proof.report == "all":
            wanted += [each.id for each in self._references()]
        if not self._score("reporting", "report", list(dict.fromkeys(wanted))):
            return False
        self._judge()
        return True

    def _references(self) -> list[Candidate]:
        """Return the parents, simple merges and start recipes that could be scored."""
        return [each for each in self.ledger.candidates(kinds=REFERENCE_KINDS) if each.state == "scored"]

    # -- finalists -----------------------------------------------------------------------------------------------

    def _name_finalists(self) -> None:
        """Choose who is re-scored: the adjusted front, the best by adjusted fitness, and the distribution mean."""
        if self.ledger.meta("finalists") is not None:
            return
        searched = [each.id for each in self.ledger.candidates(kinds=["candidate"]) if each.state == "scored"]
        if not searched:
            raise NothingScored(f"{self.ledger.path.parent}: no candidate could be scored; see `evomerge front --all`")
        standings = Ranking(self.setup.objectives, self.ledger.items("search", soft=False), self._loop.tally.floors)
        count = self.setup.entry.proof.finalists
        best = standings.ranked(searched)
        front = standings.ranked(standings.front(searched))[:count]
        finalists = list(dict.fromkeys([*best[:count], *front]))
        with self.ledger.transaction():
            finalists += self._add_mean()
            self.ledger.set_meta("adjusted", {str(c): values for c, values in standings.values.items()})
            self.ledger.set_meta("finalists", finalists)
            self.ledger.set_meta("state", "proving")

    def _add_mean(self) -> list[int]:
        """Add the distribution mean as a candidate: it averages out the luck that single candidates had."""
        point = self.optimizer.mean()
        if point is None:
            return []
        document = self.setup.space.decode(point)
        added = self.ledger.add(
            name="the distribution mean",
            kind="mean",
            generation=-1,
            subset=-1,
            recipe=document,
            fingerprint=self.setup.recipe(document).fingerprint,
            point=point,
        )
        return [added]

    # -- scoring -------------------------------------------------------------------------------------------------

    def _score(self, phase: Phase, pool: Pool, candidates: Sequence[int]) -> bool:
        """Score candidates on a whole pool, each once ever; False if stopped before all were done."""
        known = {each.id: each for each in self.ledger.candidates()}
        failed = self.ledger.meta("unproven", {})
        todo = deque(
            each for each in candidates if pool not in known[each].scores and pool not in failed.get(str(each), {})
        )
        planned, running = len(todo), 0
        items = self._loop.subsets.pool(pool)
        started = time.monotonic()
        done = 0
        while todo or running:
            while self.executor.free and todo and not self._stop():
                document = known[todo[0]].recipe
                self.executor.submit(Job(candidate=todo.popleft(), pool=pool, document=document, items=items))
                running += 1
            if self._stop() and not (running and self.executor.workers):
                return False
            for job, outcome in self.executor.wait(WAIT_SECONDS):
                self._record(known[job.candidate], job, outcome)
                running, done = running - 1, done + 1
            spent = time.monotonic() - started
            self._observer.update(
                Progress(
                    phase=phase,
                    done=done,
                    planned=planned,
                    running=running,
                    workers=self.executor.workers,
                    seconds=self._loop.seconds,
                    seconds_left=spent / done * (planned - done) if done else None,
                )
            )
        return True

    def _record(self, candidate: Candidate, job: Job, outcome: Outcome) -> None:
        with self.ledger.transaction():
            if outcome.items is not None:
                self.ledger.add_scores(candidate.id, job.pool, scores_of(outcome.items), outcome.items)
            if outcome.failure is not None:
                unproven = self.ledger.meta("unproven", {})
                unproven.setdefault(str(candidate.id), {})[job.pool] = outcome.failure.reason
                self.ledger.set_meta("unproven", unproven)
            if candidate.kind == "mean" and candidate.state == "running":
                self.ledger.finish(
                    candidate.id,
                    failure=outcome.failure,
                    attempts=outcome.attempts,
                    seconds=outcome.seconds,
                    worker=outcome.worker,
                )
            self.ledger.set_meta("seconds", self._loop.seconds)
        if outcome.failure is not None:
            self._observer.say(f"{candidate.name} could not be scored on the {job.pool} pool: {outcome.failure.reason}")
        self._loop.trackers.candidate_scored(_result(candidate, job.pool, outcome), job.pool)

    # -- the pick and the verdict --------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Choose the pick, the best parent and the best simple merge by their select scores."""
        if self.ledger.meta("pick") is not None:
            return
        scored = {c.id: c for c in self.ledger.candidates() if "select" in c.scores}
        objectives = self.setup.objectives
        values = {each: values_of(candidate.scores["select"]) for each, candidate in scored.items()}
        floors = floors_of(objectives, self.setup.relative_floors, parent_scores(scored.values(), "select"))
        means = {each: fitness(objectives, values[each], {}) for each in scored}
        eligible = [c.id for c in scored.values() if c.kind in ("candidate", "mean")]
        if not eligible:
            raise NothingScored(f"{self.ledger.path.parent}: no finalist could be scored on the select pool")
        missed = {each: shortfall(objectives, values[each], floors) for each in eligible}
        # Those that meet every floor come first; if none does, the smallest shortfall does.
        pick = min(eligible, key=lambda each: (missed[each], -means[each], each))
        comparators = []
        for kind in ("parent", "simple"):
            rivals = [c.id for c in scored.values() if c.kind == kind]
            if rivals:
                comparators.append({"id": max(rivals, key=lambda each: (means[each], -each)), "kind": kind})
        ranking = Ranking.of_values(objectives, values, floors)
        front = ranking.front(list(scored))
        with self.ledger.transaction():
            self.ledger.set_meta("pick", pick)
            self.ledger.set_meta("pick_meets_floors", missed[pick] == 0)
            self.ledger.set_meta("comparators", comparators)
            self.ledger.set_meta("front", front)
        self._loop.trackers.front_changed(front_members(ranking, front), "select")

    def _judge(self) -> None:
        """Compare the pick with the comparators on the report pool, item by item."""
        items = self.ledger.items("report")
        pick = self.ledger.meta("pick")
        objectives = self.setup.objectives
        comparisons = []
        for comparator in self.ledger.meta("comparators"):
            if pick in items and comparator["id"] in items:
                interval = paired_interval(
                    items[pick],
                    items[comparator["id"]],
                    {o.name: o.weight for o in objectives},
                    seed=self.setup.entry.seed,
                    scale={o.name: factor(o) for o in objectives},
                )
                comparisons.append(Comparison(id=comparator["id"], kind=comparator["kind"], interval=interval))
        result = verdict(comparisons) if comparisons else None
        with self.ledger.transaction():
            self.ledger.set_meta("verdict", None if result is None else verdict_plain(result))
            self.ledger.set_meta("state", "done")
            self.ledger.set_meta("seconds", self._loop.seconds)


def _result(candidate: Candidate, pool: Pool, outcome: Outcome) -> Candidate:
    """Return a candidate with what one pool's job gave, as trackers are given it."""
    scores = {} if outcome.items is None else {pool: scores_of(outcome.items)}
    return replace(
        candidate,
        state=outcome.failure.kind if outcome.failure else "scored",
        failure=outcome.failure,
        seconds=outcome.seconds,
        worker=outcome.worker,
        scores={**candidate.scores, **scores},
    )


def verdict_plain(result: Verdict) -> dict[str, Any]:
    """Return a verdict as the plain data that `front --json` shows."""
    comparisons: list[Mapping[str, Any]] = [
        {"id": c.id, "kind": c.kind, "gain": c.interval.gain, "interval": [c.interval.low, c.interval.high]}
        for c in result.comparisons
    ]
    return {
        "gain": result.gain,
        "interval": [result.low, result.high],
        "claimed": result.claimed,
        "text": result.text,
        "comparisons": comparisons,
    }
