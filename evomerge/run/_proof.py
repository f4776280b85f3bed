"""The proof: finalists and references on unseen items, the pick, and the verdict."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import EvomergeError, NothingScored
from evomerge.optimizers import Optimizer
from evomerge.records import Candidate, Kind, Pool
from evomerge.run._floors import floors_of, parent_scores
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import (
    fitness,
    scale_factor,
    scores_of,
    shortfall,
    values_of,
)
from evomerge.run._progress import Observer, Phase, Progress
from evomerge.run._ranking import Ranking, front_members
from evomerge.run.config._setup import Setup
from evomerge.run.loop import WAIT_SECONDS, SearchLoop
from evomerge.run.workers import Executor, Job, Outcome
from evomerge.stats import (
    Comparison,
    Verdict,
    paired_interval,
    verdict,
)

REFERENCE_KINDS: tuple[Kind, ...] = ("parent", "simple", "control")
MAX_REPORT_SESSIONS = 2  # in which the pick or a rival fails on the report pool, before the next one takes its place
FAILURES = "proof_failures"  # the ledger's fact: candidate -> pool -> {"sessions": how many, "reason": the last}
_ROLES: dict[Kind, str] = {"parent": "parent", "simple": "simple merge"}


class Proof:
    """Runs the select and report pools once each; every step is in the ledger, so it resumes like the search.

    A failure while the pools are scored is tried again whenever the run is resumed. A finalist or reference that cannot
    be scored on the select pool is left out of the choice. Without report scores of the pick and of its rivals there is
    no verdict, and the run is not done: if one fails on the report pool in two sessions, the next one takes its place.
    """

    def __init__(self, loop: SearchLoop, *, observer: Observer, stop: Callable[[], bool]):
        """Prepare the proof of a search.

        Args:
            loop: whose search has ended.
            observer: hears of progress.
            stop: whether a stop was requested.
        """
        self.setup: Setup = loop.setup
        self.ledger: Ledger = loop.ledger
        self.executor: Executor = loop.executor
        self.optimizer: Optimizer = loop.optimizer
        self._loop, self._observer, self._stop = loop, observer, stop
        self._tried: set[tuple[int, Pool]] = set()  # in this session

    def run(self) -> bool:
        """Prove the result; False if it was interrupted.

        Raises:
            NothingScored: no candidate has a score.
            EvomergeError: the pick or a rival could not be scored on the report pool; the next session tries again.
        """
        self._name_finalists()
        if self.ledger.meta("pick") is None:
            finalists = [*self.ledger.meta("finalists"), *(reference.id for reference in self._references())]
            if not self._score("selecting", "select", finalists):
                return False
            self._choose()
        while True:
            required = [self.ledger.meta("pick"), *(rival["id"] for rival in self.ledger.meta("comparators"))]
            others = self._references() if self.setup.entry.proof.report == "all" else []
            wanted = list(dict.fromkeys([*required, *(reference.id for reference in others)]))
            if not self._score("reporting", "report", wanted):
                return False
            failed = self._without_report(required)
            if not failed:
                break
            self._replace(failed)
        self._judge()
        return True

    def _references(self) -> list[Candidate]:
        """Return the parents, simple merges and start recipes that could be scored."""
        return [known for known in self.ledger.candidates(kinds=REFERENCE_KINDS) if known.state == "scored"]

    # -- finalists -----------------------------------------------------------------------------------------------

    def _name_finalists(self) -> None:
        """Choose who is re-scored: the adjusted front, the best by adjusted fitness, and the distribution mean."""
        if self.ledger.meta("finalists") is not None:
            return
        searched = [known.id for known in self.ledger.candidates(kinds=["candidate"]) if known.state == "scored"]
        if not searched:
            raise NothingScored(f"{self.ledger.path.parent}: no candidate could be scored; see `evomerge front --all`")
        ranking = Ranking(self.setup.objectives, self.ledger.items("search", soft=False), self._loop.state.floors)
        count = self.setup.entry.proof.finalists
        best = ranking.ranked(searched)
        front = ranking.ranked(ranking.front(searched))[:count]
        finalists = list(dict.fromkeys([*best[:count], *front]))
        with self.ledger.transaction():
            finalists += self._add_mean()
            self.ledger.set_meta("adjusted", {str(c): values for c, values in ranking.values.items()})
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
        """Score candidates on a whole pool, those without scores, each once a session.

        Returns:
            False if a stop was requested before all were done.
        """
        known = {candidate.id: candidate for candidate in self.ledger.candidates()}
        todo = deque(
            identity
            for identity in candidates
            if pool not in known[identity].scores and (identity, pool) not in self._tried
        )
        planned, running, done = len(todo), 0, 0
        items = self._loop.subsets.pool(pool)
        started = time.monotonic()
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
        """Commit one result; a failure is counted, and forgotten when a later session has a score."""
        self._tried.add((candidate.id, job.pool))
        failures = self.ledger.meta(FAILURES, {})
        mine = failures.setdefault(str(candidate.id), {})
        with self.ledger.transaction():
            if outcome.items is not None:
                self.ledger.add_scores(candidate.id, job.pool, scores_of(outcome.items), outcome.items)
                mine.pop(job.pool, None)
            elif outcome.failure is not None:
                sessions = mine.get(job.pool, {}).get("sessions", 0) + 1
                mine[job.pool] = {"sessions": sessions, "reason": outcome.failure.reason}
            self.ledger.set_meta(FAILURES, {identity: pools for identity, pools in failures.items() if pools})
            if candidate.kind == "mean" and candidate.state != "scored":
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

    def _failures(self, pool: Pool) -> dict[int, Mapping[str, Any]]:
        """Return candidate -> in how many sessions it failed on a pool ("sessions"), and the last "reason"."""
        failures = self.ledger.meta(FAILURES, {})
        return {int(identity): pools[pool] for identity, pools in failures.items() if pool in pools}

    def _note(self, sentence: str) -> None:
        """Add a sentence to the notes that every report of the run shows."""
        self.ledger.set_meta("notes", [*self.ledger.meta("notes", []), sentence])
        self._observer.say(sentence)

    # -- the pick and the verdict --------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Choose the pick, the best parent and the best simple merge by their select scores.

        Left out is what has no select score, and what failed on the report pool in too many sessions.
        """
        failed = self._failures("report")
        left_out = {identity for identity, found in failed.items() if found["sessions"] >= MAX_REPORT_SESSIONS}
        scored = {c.id: c for c in self.ledger.candidates() if "select" in c.scores}
        objectives = self.setup.objectives
        values = {identity: values_of(candidate.scores["select"]) for identity, candidate in scored.items()}
        floors = floors_of(objectives, self.setup.relative_floors, parent_scores(scored.values(), "select"))
        means = {identity: fitness(objectives, values[identity], {}) for identity in scored}
        eligible = [c.id for c in scored.values() if c.kind in ("candidate", "mean") and c.id not in left_out]
        if not eligible:
            pool = "report" if left_out else "select"
            raise NothingScored(f"{self.ledger.path.parent}: no finalist could be scored on the {pool} pool")
        missed = {identity: shortfall(objectives, values[identity], floors) for identity in eligible}
        # Those that meet every floor come first; if none does, the smallest shortfall does.
        pick = min(eligible, key=lambda identity: (missed[identity], -means[identity], identity))
        comparators = []
        for kind in ("parent", "simple"):
            rivals = [c.id for c in scored.values() if c.kind == kind and c.id not in left_out]
            if rivals:
                comparators.append({"id": max(rivals, key=lambda identity: (means[identity], -identity)), "kind": kind})
        ranking = Ranking.of_values(objectives, values, floors)
        front = ranking.front(list(scored))
        with self.ledger.transaction():
            if self.ledger.meta("pick") is None:
                self._note_select_failures()
            self.ledger.set_meta("pick", pick)
            self.ledger.set_meta("pick_meets_floors", missed[pick] == 0)
            self.ledger.set_meta("comparators", comparators)
            self.ledger.set_meta("front", front)
        self._loop.trackers.front_changed(front_members(ranking, front), "select")

    def _note_select_failures(self) -> None:
        names = {candidate.id: candidate.name for candidate in self.ledger.candidates()}
        for identity, found in self._failures("select").items():
            self._note(
                f"{names[identity]} could not be scored on the select pool ({found['reason']}) and was left out of the "
                "choice of the pick and its rivals"
            )

    def _without_report(self, candidates: Sequence[int]) -> list[Candidate]:
        """Return those of some candidates that have no report scores."""
        known = {candidate.id: candidate for candidate in self.ledger.candidates()}
        return [known[identity] for identity in candidates if "report" not in known[identity].scores]

    def _replace(self, failed: Sequence[Candidate]) -> None:
        """Choose others in place of the pick or rivals that cannot be scored on the report pool.

        Raises:
            EvomergeError: one of them has failed in this session only; the next one tries it again.
            NothingScored: no finalist is left.
        """
        failures = self._failures("report")
        for candidate in failed:
            reason, sessions = failures[candidate.id]["reason"], failures[candidate.id]["sessions"]
            if sessions < MAX_REPORT_SESSIONS:
                raise EvomergeError(
                    f"{self.ledger.path.parent}: {candidate.name} could not be scored on the report pool ({reason}); "
                    "there is no verdict yet; the same command tries again, and if that fails as well, the next one "
                    "takes its place"
                )
        pick = self.ledger.meta("pick")
        self._choose()
        for candidate in failed:
            role = "pick" if candidate.id == pick else f"best {_ROLES[candidate.kind]}"
            reason = failures[candidate.id]["reason"]
            self._note(
                f"{candidate.name} was the {role} by its select scores, but could not be scored on the report pool "
                f"({reason}); the next one took its place"
            )

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
                    scale={o.name: scale_factor(o) for o in objectives},
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
