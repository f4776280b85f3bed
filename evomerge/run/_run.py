"""Reading a run: what the ledger says, from any process, while the run goes on or years later."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from evomerge.errors import InvalidInput
from evomerge.optimizers import knee
from evomerge.recipe import Recipe, parse_recipe
from evomerge.records import (
    POOLS,
    Candidate,
    ItemScores,
    Objective,
    Pool,
)
from evomerge.run._folder import LEDGER, owner_of
from evomerge.run._identity import complete, version_sentence
from evomerge.run._ledger import Ledger
from evomerge.run._ledger_file import reading
from evomerge.run._objectives import displayed_interval, fitness, floors_of, parent_scores, reweighted, values_of
from evomerge.run._ranking import ADJUSTED, CALIBRATION, Ranking, fitness_interval
from evomerge.run.loop import COST, utilization_share
from evomerge.stats import interval_of

if TYPE_CHECKING:
    import pandas

RunState = Literal["searching", "proving", "done"]


class Summary(NamedTuple):
    """Where a run stands.

    Attributes:
        state: whether it is still searching, in its proof, or done.
        owner: "process N on HOST" that works on it, or None.
        asked: searched candidates, without references.
        finished: those of them that were scored or failed.
        budget: as the search file says, overrides included.
        failures: kind -> number of candidates.
        seconds: of all sessions.
        busy: see `utilization`.
        best: (candidate, adjusted fitness) of the best searched one, or None.
        best_interval: 95% interval of that fitness, or None.
        front: size of the Pareto front.
    """

    state: RunState
    owner: str | None
    asked: int
    finished: int
    budget: Mapping[str, Any]
    failures: Mapping[str, int]
    seconds: float
    busy: float | None
    best: tuple[int, float] | None
    best_interval: tuple[float, float] | None
    front: int


class Presenter(Protocol):
    """How runs look; `evomerge.results` brings one, as this package must not know."""

    def html(self, run: "Run") -> str:
        """Return what a notebook shows of a run."""
        ...

    def figures(self, run: "Run") -> Mapping[str, Any]:
        """Return the figures of a run by name."""
        ...


class Run:
    """A run folder, read only. A notebook shows its verdict, front and scores.

    Attributes:
        path: the run folder.
        presenter: how runs look; set when `evomerge.results` is imported, as `import evomerge` does for `evomerge.Run`.

    Raises:
        InvalidInput: the folder holds no ledger, or a damaged or newer one.
    """

    presenter: ClassVar[Presenter | None] = None

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._ledger = complete(Ledger.read(self.path / LEDGER))

    def close(self) -> None:
        """Let go of the ledger, which an open reader keeps from becoming one plain file; nothing can be read then."""
        self._ledger.close()

    @property
    def state(self) -> RunState:
        """Whether the run is still searching, in its proof, or done."""
        state: RunState = self._ledger.meta("state")
        return state

    @property
    def owner(self) -> str | None:
        """Who works on the run now, "process N on HOST", or None."""
        return owner_of(self.path)

    def fact(self, key: str, default: object = None) -> Any:
        """Return a recorded fact, such as "notes", "versions", "version_changes", "models" or "verdict"."""
        return self._ledger.meta(key, default)

    @property
    def version_notes(self) -> list[str]:
        """A sentence for each time that the run went on with other versions of its libraries."""
        return [version_sentence(change) for change in self.fact("version_changes", [])]

    @property
    def notes(self) -> list[str]:
        """What whoever reads the results should know, as sentences: on pools and tasks, on the proof, on versions."""
        return [*self.fact("notes", []), *self.version_notes]

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search is for."""
        with reading(self._ledger.path):
            plain = self._ledger.meta("objectives")
            return tuple(
                Objective(**{**fields, "scale": tuple(fields["scale"]) if fields["scale"] else None})
                for fields in plain
            )

    def candidates(self) -> list[Candidate]:
        """Return everything that was tried, references and the mean included, by id."""
        return self._ledger.candidates()

    def candidate(self, identity: int) -> Candidate:
        """Return one candidate.

        Raises:
            InvalidInput: there is none with that id.
        """
        found = [candidate for candidate in self.candidates() if candidate.id == identity]
        if not found:
            raise InvalidInput(f"{self.path}: has no candidate {identity}; see `evomerge front {self.path} --all`")
        return found[0]

    def recipe(self, candidate: Candidate) -> Recipe:
        """Return a candidate's recipe; relative parent paths start where the search file's did."""
        return parse_recipe(candidate.recipe, where=f"candidate {candidate.id}", root=Path(self._ledger.meta("folder")))

    @property
    def candidates_with_gradient(self) -> frozenset[int]:
        """Ids of the candidates that were scored with a backward pass."""
        return frozenset(step.candidate for step in self._ledger.steps() if step.kind == "gradient")

    @property
    def items_with_gradient(self) -> int:
        """Number of items of the search pool that were scored with a backward pass, which costs about three times."""
        with_gradient = self.candidates_with_gradient
        return sum(
            score.n
            for candidate in self.candidates()
            if candidate.id in with_gradient
            for score in candidate.scores.get("search", {}).values()
        )

    def cost(self, price: float | None = None) -> dict[str, Any]:
        """Return what the run has cost so far.

        Args:
            price: of an hour of all its machines together, in any currency.

        Returns:
            items: pool -> items scored, those of repeated candidates and of a random control included.
            seconds: of all sessions.
            worker_seconds: that workers spent on candidates; None for runs of older versions, like the next two.
            tokens: that went through models, padding included; 0 where only Python functions scored.
            by_phase: "search", "control", "select" or "report" -> candidates, items, tokens and worker seconds.
            money: where a price is given.
        """
        phases = self.fact(COST)
        found = {
            "items": items_scored(self.candidates()),
            "seconds": float(self.fact("seconds", 0.0)),
            "worker_seconds": None if phases is None else sum(phase["seconds"] for phase in phases.values()),
            "tokens": None if phases is None else sum(phase["tokens"] for phase in phases.values()),
            "by_phase": phases,
        }
        return found if price is None else {**found, "money": price * found["seconds"] / 3600}

    def finished_at(self) -> dict[int, float]:
        """Return candidate -> when it was finished last, in seconds since 1970; empty for runs of older versions."""
        return self._ledger.finished_at()

    def items(self, pool: Pool) -> dict[int, dict[str, ItemScores]]:
        """Return candidate -> objective -> item scores of one pool."""
        return self._ledger.items(pool)

    def intervals(self, candidate: Candidate, pool: Pool) -> dict[str, list[float]]:
        """Return the 95% interval of each of a candidate's scores on a pool.

        Wilson's for items that are right or wrong; items that belong together count as such.

        Args:
            candidate: any that was scored on the pool.
            pool: which.

        Returns:
            Objective -> lower and upper end, in the metric's own units and direction.
        """
        items = self._ledger.items_of(candidate.id, pool)
        with reading(self._ledger.path):
            stored = self._ledger.meta("clusters", {})
            clusters = {name: {int(item): group for item, group in found.items()} for name, found in stored.items()}
        found = {}
        for objective in self.objectives:
            own, cluster_of = items[objective.name], clusters.get(objective.name)
            interval = interval_of(own, cluster_of=cluster_of, exact=objective.exact)
            found[objective.name] = displayed_interval(objective, interval.low, interval.high)
        return found

    @property
    def pick(self) -> Candidate | None:
        """The run's result: chosen on the select pool; None before that."""
        pick = self._ledger.meta("pick")
        return None if pick is None else self.candidate(pick)

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Whether the pick's gain is proven, as plain data; None before the proof is done."""
        found: Mapping[str, Any] | None = self._ledger.meta("verdict")
        return found

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """How far adjusted search scores were from select scores (see `calibration`); None before there is a pick."""
        errors = self.fact(CALIBRATION)
        ranking = self.fact("identity", {}).get("proof", {}).get("ranking", "effects")
        return None if errors is None else {"ranking": ranking, "objectives": errors}

    @property
    def front(self) -> list[Candidate]:
        """The candidates that no other dominates: by select scores once they exist, else by adjusted search scores."""
        chosen = self._ledger.meta("front")
        candidates = self.candidates()
        known = {candidate.id: candidate for candidate in candidates}
        if chosen is None:
            ranking = self._ranking(candidates)
            chosen = ranking.front(list(ranking.values))
        with reading(self._ledger.path):
            return [known[identity] for identity in chosen]

    @property
    def knee(self) -> Candidate | None:
        """The front's member of the best balance (see `evomerge.optimizers.knee`); None before one is scored."""
        members = self._front_values()
        points = [[found[objective.name] for objective in self.objectives] for found in members.values()]
        return self.candidate(list(members)[knee(points)]) if members else None

    def preferred(self, weights: Mapping[str, float]) -> Candidate | None:
        """Return the front's best member by other weights of the objectives; None before one is scored.

        Args:
            weights: objective -> its weight, at least 0; those left out keep the run's.

        Raises:
            InvalidInput: there is no such objective, or a weight is negative, or all are 0.
        """
        weighted = reweighted(self.objectives, weights)
        members = self._front_values()
        floors = self.floors("select" if self._ledger.meta("front") is not None else "search")
        best = max(members, key=lambda i: (fitness(weighted, members[i], floors), -i), default=None)
        return None if best is None else self.candidate(best)

    def _front_values(self) -> dict[int, dict[str, float]]:
        """Return member of the front -> internal values: select ones once there is a pick, else adjusted ones."""
        front = self.front
        if self._ledger.meta("front") is not None:
            return {known.id: values_of(known.scores["select"]) for known in front}
        values = self.ranking().values
        return {known.id: values[known.id] for known in front}

    @property
    def finalists(self) -> list[int]:
        """Ids of the candidates that were re-scored on the select pool, those of a random control included."""
        return [*self._ledger.meta("finalists", []), *self._ledger.meta("control_finalists", [])]

    def listed(self, *, everything: bool = False) -> list[Candidate]:
        """Return the front, the finalists and the references, by id.

        Args:
            everything: all candidates.
        """
        marked = {candidate.id for candidate in self.front}.union(self.finalists)
        return [
            candidate
            for candidate in self.candidates()
            if everything or candidate.id in marked or not (candidate.kind == "candidate" or candidate.from_control)
        ]

    def ranking(self) -> Ranking:
        """Return search scores made comparable across subsets; whoever misses a floor ranks behind."""
        return self._ranking(self.candidates())

    def floors(self, pool: Pool) -> dict[str, float]:
        """Return objective -> internal floor; those relative to a parent by its score on a pool."""
        return self._floors(self.candidates(), pool)

    def _floors(self, candidates: Sequence[Candidate], pool: Pool) -> dict[str, float]:
        with reading(self._ledger.path):
            relative = self._ledger.meta("identity", {}).get("relative_floors", {})
            return floors_of(self.objectives, relative, parent_scores(candidates, pool))

    def _ranking(self, candidates: Sequence[Candidate]) -> Ranking:
        floors = self._floors(candidates, "search")
        with reading(self._ledger.path):
            adjusted = self._ledger.meta(ADJUSTED)
            if adjusted:  # since the search has ended: item effects need not be fitted again
                values = {int(candidate): found for candidate, found in adjusted.items()}
                return Ranking.of_values(self.objectives, values, floors)
            return Ranking(self.objectives, self._ledger.items("search", soft=False), floors)

    def mean_score(self, candidate: Candidate, pool: Pool) -> float | None:
        """Return the weighted mean of the objectives on one pool, or None if it was not scored there."""
        scores = candidate.scores.get(pool)
        return None if scores is None else fitness(self.objectives, values_of(scores), {})

    def frame(self, what: str = "candidates") -> "pandas.DataFrame":
        """Return a part of the run as a pandas frame.

        Args:
            what: "candidates" (a row for everything that was tried: scores in the metrics' own units, then the genes),
                "front" (those rows of the front) or "items" (a row for each candidate, pool, objective and item).

        Raises:
            InvalidInput: there is no such frame, or pandas is not installed.
        """
        from evomerge.run.analysis import RunFacts, frame

        return frame(RunFacts(self), what)

    def figures(self) -> Mapping[str, Any]:
        """Return the figures of the report by name; a notebook draws each, and `.svg()` is its file.

        Raises:
            InvalidInput: `evomerge.results` was not imported.
        """
        if self.presenter is None:
            raise InvalidInput("a run has figures once evomerge.results is imported; open it with evomerge.Run")
        return self.presenter.figures(self)

    def _repr_html_(self) -> str | None:
        return None if self.presenter is None else self.presenter.html(self)

    def __repr__(self) -> str:
        pick = self._ledger.meta("pick")
        return f"Run({str(self.path)!r}, {self.state}{'' if pick is None else f', pick {pick}'})"

    def summary(self) -> Summary:
        """Return where the run stands."""
        candidates = self.candidates()
        searched = [candidate for candidate in candidates if candidate.kind == "candidate"]
        failures: dict[str, int] = {}
        for candidate in candidates:
            if candidate.failure is not None:
                failures[candidate.failure.kind] = failures.get(candidate.failure.kind, 0) + 1
        ranking = self._ranking(candidates)
        ranked = ranking.ranked([candidate.id for candidate in searched])
        best = (ranked[0], ranking.fitness(ranked[0])) if ranked else None
        items = {} if best is None else self._ledger.items_of(best[0], "search")
        return Summary(
            state=self.state,
            owner=owner_of(self.path),
            asked=len(searched),
            finished=sum(1 for candidate in searched if candidate.state != "running"),
            budget=self._ledger.meta("search").get("budget", {}),
            failures=failures,
            seconds=float(self._ledger.meta("seconds", 0.0)),
            busy=utilization(self),
            best=best,
            best_interval=None if best is None else fitness_interval(self.objectives, items, best[1]),
            front=len(ranking.front(list(ranking.values))),
        )


def items_scored(candidates: Iterable[Candidate]) -> dict[Pool, int]:
    """Return how many items were scored on each pool, those of repeated candidates included."""
    known = list(candidates)
    return {pool: sum(score.n for c in known for score in c.scores.get(pool, {}).values()) for pool in POOLS}


def utilization(run: Run) -> float | None:
    """Return the share of its workers' time that a search spent on candidates, from the first to the last of them.

    Workers count while they are up, the proof does not count. It is None where nothing was scored, or by an older
    evomerge.
    """
    return utilization_share(run.fact("busy"))
