"""The proof: finalists and references on unseen items, the pick, and the verdict."""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from evomerge.errors import EvomergeError, NothingScored
from evomerge.records import Candidate, Pool
from evomerge.run._finalists import (
    CONTROL_FINALISTS,
    FINALISTS,
    Part,
    joined,
    missing_items,
    name_finalists,
    parts_of,
    survivors,
)
from evomerge.run._finalists import ERROR as RACE_ERROR
from evomerge.run._judgement import REFERENCE_KINDS, choose_pick, judge, verdict_plain, what_of
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, floors_of, parent_scores, scores_of, values_of
from evomerge.run._progress import Observer, Phase, Progress
from evomerge.run._ranking import ADJUSTED, CALIBRATION, Ranking, calibration, front_members
from evomerge.run.config._setup import Setup
from evomerge.run.loop import COST, WAIT_SECONDS, SearchLoop, finished_candidate
from evomerge.run.workers import Executor, Job, Outcome
from evomerge.stats import with_front

MAX_REPORT_SESSIONS = 2  # in which the pick or a rival fails on the report pool, before the next one takes its place
MEMBERS = "front_members"  # the ledger's fact: the front's other members that are judged beside the pick
FAILURES = "proof_failures"  # the ledger's fact: candidate -> pool -> {"sessions": how many, "reason": the last}


class Proof:
    """Runs the select and report pools once each; every step is in the ledger, so it resumes like the search.

    A failure while the pools are scored is tried again whenever the run is resumed. A finalist or reference that cannot
    be scored on the select pool is left out of the choice. Without report scores of the pick and of its rivals there is
    no verdict, and the run is not done: if the pick fails on the report pool in two sessions, the next one takes its
    place; a rival that does is left out, and the verdict says so.
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
        self._loop, self._observer, self._stop = loop, observer, stop
        self._tried: set[tuple[int, Pool]] = set()  # in this session

    def run(self) -> bool:
        """Prove the result; False if it was interrupted.

        Raises:
            NothingScored: no candidate has a score.
            EvomergeError: the pick or a rival could not be scored on the report pool; the next session tries again.
        """
        name_finalists(self._loop, self._note)
        if self.ledger.meta("pick") is None:
            finalists = [
                *self.ledger.meta(FINALISTS),
                *(reference.id for reference in self._references()),
                *self.ledger.meta(CONTROL_FINALISTS, []),
            ]
            if not self._race(list(dict.fromkeys(finalists))):
                return False
            self._choose()
        while True:
            rivals = [rival["id"] for rival in self.ledger.meta("comparators")]
            required = [self.ledger.meta("pick"), *rivals, *self.ledger.meta(MEMBERS, [])]
            required = list(dict.fromkeys(required))
            if not self._score("reporting", "report", required, self._loop.subsets.pool("report")):
                return False
            failed = self._without_report(required)
            if not failed:
                break
            self._replace(failed)
        self._judge()
        return True

    def _references(self) -> list[Candidate]:
        """Return the parents, simple merges and start recipes that could be scored."""
        references = self.ledger.candidates(kinds=REFERENCE_KINDS)
        return [known for known in references if known.state == "scored" and not known.from_control]

    @property
    def _reports_all(self) -> bool:
        """Whether the pick is compared with every reference; as the run was started, whatever the default is now."""
        return bool(self.ledger.meta("identity")["proof"]["report"] == "all")

    # -- scoring -------------------------------------------------------------------------------------------------

    def _race(self, finalists: Sequence[int]) -> bool:
        """Score finalists and references on the select pool, and clearly worse ones on a part of it only.

        Who is dropped is worked out from the scores alone, so that a resumed race is the same.

        Returns:
            False if a stop was requested before all were done.
        """
        pool = self._loop.subsets.pool("select")
        races = self.ledger.meta("identity")["proof"].get("race", False)
        parts = parts_of(pool, self.setup.entry.seed) if races else [pool]
        error = RACE_ERROR / max(1, (len(parts) - 1) * (len(finalists) - 1))
        running = list(finalists)
        for part in parts:
            if not self._score("selecting", "select", running, part):
                return False
            if part is not pool:
                items = self.ledger.items("select", soft=False)
                known = {identity: items[identity] for identity in running if identity in items}
                clusters = self.setup.prepared.clusters
                running = survivors(self.setup.objectives, known, part, error=error, clusters=clusters)
        return True

    def _score(self, phase: Phase, pool: Pool, candidates: Sequence[int], items: Part) -> bool:
        """Score candidates on items of a pool that they have no scores of, each once a session if it fails.

        Returns:
            False if a stop was requested before all were done.
        """
        known = {candidate.id: candidate for candidate in self.ledger.candidates()}
        missing = {identity: missing_items(self.ledger, known[identity], pool, items) for identity in candidates}
        todo = deque(i for i in candidates if missing[i] and (i, pool) not in self._tried)
        planned, running, done = len(todo), 0, 0
        started = time.monotonic()
        while todo or running:
            while self.executor.free and todo and not self._stop():
                identity = todo.popleft()
                document = known[identity].recipe
                self.executor.submit(Job(candidate=identity, pool=pool, document=document, items=missing[identity]))
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
        items = outcome.items
        if items is None:
            self._tried.add((candidate.id, job.pool))
        elif job.pool in candidate.scores:
            items = joined(self.ledger.items_of(candidate.id, job.pool), items)
        scores = None if items is None else scores_of(items)
        failures = self.ledger.meta(FAILURES, {})
        mine = failures.setdefault(str(candidate.id), {})
        with self.ledger.transaction():
            if items is not None and scores is not None:
                grown = job.pool in candidate.scores
                self.ledger.add_scores(candidate.id, job.pool, scores, items, grown=grown)
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
            self._loop.cost.add(job.pool, outcome)
            self.ledger.set_meta(COST, self._loop.cost.plain())
            self.ledger.set_meta("seconds", self._loop.seconds)
        if outcome.failure is not None:
            self._observer.say(f"{candidate.name} could not be scored on the {job.pool} pool: {outcome.failure.reason}")
        self._loop.trackers.candidate_scored(finished_candidate(candidate, job.pool, outcome, scores), job.pool)

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
        """Choose the pick by the select scores, and the references that it is compared with.

        Left out is what failed on the report pool in too many sessions, and of the pick what has no select score.

        Raises:
            NothingScored: no finalist is left.
        """
        failed = self._failures("report")
        left_out = {identity for identity, found in failed.items() if found["sessions"] >= MAX_REPORT_SESSIONS}
        scored = {c.id: c for c in self.ledger.candidates() if "select" in c.scores}
        objectives = self.setup.objectives
        values = {identity: values_of(candidate.scores["select"]) for identity, candidate in scored.items()}
        floors = floors_of(objectives, self.setup.relative_floors, parent_scores(scored.values(), "select"))
        kinds = {identity: candidate.kind for identity, candidate in scored.items() if identity not in left_out}
        if all(kind in REFERENCE_KINDS for kind in kinds.values()):
            pool = "report" if left_out else "select"
            raise NothingScored(f"{self.ledger.path.parent}: no finalist could be scored on the {pool} pool")
        sizes = {name: len(ids) for name, ids in self._loop.subsets.pool("select").items()}
        last = [i for i in kinds if all(scored[i].scores["select"][name].n == n for name, n in sizes.items())]
        last = [] if left_out else last  # whom they were better than may be the best of those that are left
        controls = [identity for identity in kinds if scored[identity].from_control]
        of_control = {i: values[i] for i in (set(controls).intersection(last) or controls)}
        control = choose_pick(objectives, of_control, kinds, floors).pick if of_control else None
        kinds = {i: kinds[i] for i in (last or kinds) if i not in controls or i == control}
        choice = choose_pick(objectives, {identity: values[identity] for identity in kinds}, kinds, floors)
        rivals = [reference for reference in self._references() if reference.id not in left_out]
        if not self._reports_all:
            rivals = self._chosen([rival for rival in rivals if rival.id in scored], values)
        if control is not None:  # the random search has one rival, as the search has one pick
            rivals.append(scored[control])
        ranking = Ranking.of_values(objectives, values, floors)
        front = ranking.front(list(scored))
        with self.ledger.transaction():
            if self.ledger.meta("pick") is None:
                self._note_select_failures()
            self.ledger.set_meta("pick", choice.pick)
            self.ledger.set_meta("pick_meets_floors", choice.meets_floors)
            self.ledger.set_meta("comparators", [{"id": rival.id, "kind": rival.kind} for rival in rivals])
            self.ledger.set_meta("front", front)
            adjusted = {int(identity): found for identity, found in self.ledger.meta(ADJUSTED).items()}
            self.ledger.set_meta(CALIBRATION, calibration(adjusted, values))
            self.ledger.set_meta(MEMBERS, self._members(ranking, front, choice.pick, left_out))
        self._loop.trackers.front_changed(front_members(ranking, front), "select")

    def _members(self, ranking: Ranking, front: Sequence[int], pick: int, left_out: Collection[int]) -> list[int]:
        """Return members of the front that are judged beside the pick: found by the search, far from one another.

        Only a search for a whole front has any.
        """
        if not self.ledger.meta("identity")["proof"].get("front"):
            return []
        found = {candidate.id for candidate in self.ledger.candidates(kinds=["candidate", "mean"])}
        members = [identity for identity in front if identity in found and identity not in {pick, *left_out}]
        return ranking.spread(members, self.setup.entry.proof.finalists)

    def _chosen(self, rivals: Sequence[Candidate], values: Mapping[int, Mapping[str, float]]) -> list[Candidate]:
        """Return the best reference of each kind by its select scores, and the parents that floors are relative to."""
        means = {rival.id: fitness(self.setup.objectives, values[rival.id], {}) for rival in rivals}
        chosen = []
        for kind in REFERENCE_KINDS:
            of_kind = [rival for rival in rivals if rival.kind == kind]
            if of_kind:
                chosen.append(max(of_kind, key=lambda rival: (means[rival.id], -rival.id)))
        named = {parent for parent, _ in self.setup.relative_floors.values()}
        floor_parents = [rival for rival in rivals if rival.kind == "parent" and rival.name in named]
        return list({rival.id: rival for rival in (*chosen, *floor_parents)}.values())

    def _note_select_failures(self) -> None:
        names = {candidate.id: candidate.name for candidate in self.ledger.candidates()}
        for identity, found in self._failures("select").items():
            self._note(
                f"{names[identity]} could not be scored on the select pool ({found['reason']}) and was left out of the "
                "choice of the pick"
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
            said = f"could not be scored on the report pool ({failures[candidate.id]['reason']})"
            alone = candidate.kind not in REFERENCE_KINDS or (self._reports_all and not candidate.from_control)
            if candidate.id != pick and alone:
                self._note(f"{candidate.name} ({what_of(candidate)}) {said} and was left out of the verdict")
                continue
            best = what_of(candidate) if candidate.from_control else f"best {what_of(candidate)}"
            role = "pick" if candidate.id == pick else best
            self._note(f"{candidate.name} was the {role} by its select scores, but {said}; the next one took its place")

    def _judge(self) -> None:
        """Compare the pick with its rivals on the report pool, item by item."""
        items = self.ledger.items("report", soft=False)
        known = {candidate.id: candidate for candidate in self.ledger.candidates()}
        rivals = [rival["id"] for rival in self.ledger.meta("comparators")]
        not_compared = [
            candidate.id
            for candidate in known.values()
            if candidate.kind in REFERENCE_KINDS
            and candidate.id not in rivals
            and not candidate.from_control
            and (self._reports_all or candidate.state != "scored" or candidate.id in self._failures("report"))
        ]
        judged = {
            identity: judge(
                self.setup.objectives,
                items,
                known,
                identity,
                rivals,
                seed=self.setup.entry.seed,
                relative_floors=self.setup.relative_floors,
                clusters=self.setup.prepared.clusters,
                left_out=not_compared,
            )
            for identity in (self.ledger.meta("pick"), *self.ledger.meta(MEMBERS, []))
        }
        pick, *members = judged
        result = with_front(judged[pick], {member: (known[member].name, judged[member]) for member in members})
        with self.ledger.transaction():
            self.ledger.set_meta("verdict", verdict_plain(result))
            self.ledger.set_meta("state", "done")
            self.ledger.set_meta("seconds", self._loop.seconds)
