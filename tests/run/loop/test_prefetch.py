"""Many workers: what is asked ahead, and that neither death, stop nor the end of a budget does harm to it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from evomerge.records import ItemScores
from evomerge.run import (
    Job,
    Ledger,
    Outcome,
    Setup,
    SilentObserver,
    check_search,
)
from evomerge.run.loop import WORKERS_PER_PREFETCH, SearchLoop
from tests.run.pico_search import SUBSET, differences, rows, task, write_search

MANY_WORKERS = 3 * WORKERS_PER_PREFETCH  # with so many workers, three candidates are asked ahead
LATEST, LEADING = 64, 32  # in the place of MAX_LATEST and MAX_LEADING


class Killed(BaseException):
    """Stands for the sudden death of a driver."""


class Workers:
    """An executor without clocks: every wait ends the `ending` jobs that `order` puts first."""

    def __init__(self, count: int, ending: int = 5, order: Callable[[Job], Any] = lambda job: job.candidate):
        self.workers, self._ending, self._order = count, ending, order
        self.running: list[Job] = []
        self.submitted: list[int] = []
        self.now = 0.0
        self.on_submit: Callable[[], None] = lambda: None

    @property
    def free(self) -> int:
        return self.workers - len(self.running)

    def submit(self, job: Job) -> None:
        assert self.free > 0
        self.on_submit()
        self.running.append(job)
        self.submitted.append(job.candidate)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        self.now += self._ending / self.workers  # so that a candidate takes a second
        self.running.sort(key=self._order)
        done, self.running = self.running[: self._ending], self.running[self._ending :]
        return [(job, pretended(job)) for job in done]

    def close(self) -> None:
        self.running = []


def pretended(job: Job) -> Outcome:
    """An outcome that depends on the job alone."""
    chance = random.Random(job.candidate)
    items = {
        name: ItemScores(ids=tuple(ids), values=tuple(chance.random() for _ in ids)) for name, ids in job.items.items()
    }
    return Outcome(items=items, failure=None, seconds=1.0, worker="pretended")


class Listening(SilentObserver):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def setup_of(pico: dict[str, Path], tmp_path: Path) -> Callable[..., Setup]:
    return lambda **changes: check_search(write_search(tmp_path, pico, **changes))


def loop_in(
    folder: Path, setup: Setup, workers: Workers, stop: Callable[[], bool] = lambda: False, *, tick: float = 0.0
) -> SearchLoop:
    """Return the loop of a new run, or of the one in that folder, ready to run.

    Where a look at the clock takes a tick, finding who leads takes time, and is done now and then instead of always.
    """
    ticks = count()

    def clock() -> float:
        return workers.now + tick * next(ticks)

    folder.mkdir(exist_ok=True)
    path = folder / "ledger.sqlite"
    ledger = Ledger.resume(path) if path.exists() else Ledger.create(path, {"state": "searching"})
    loop = SearchLoop(setup, ledger, workers, observer=Listening(), stop=stop, clock=clock)
    loop.restore()
    return loop


def others(loop: SearchLoop) -> list[str]:
    """Return what a loop said of recorded calls that no longer give the recorded points."""
    return [line for line in loop.observer.said if "now proposes other points" in line]


def finish(loop: SearchLoop, end: float | None = None) -> None:
    loop.run(lambda: end)
    loop.ledger.close()


def states(folder: Path) -> list[str]:
    ledger = Ledger.read(folder / "ledger.sqlite")
    found = [each.state for each in ledger.candidates()]
    ledger.close()
    return found


def most_open(folder: Path) -> int:
    """Return how many candidates were at most asked for and not told of."""
    open_asks: set[int] = set()
    most = 0
    for _, kind, candidate, *_ in rows(folder, "step")["step"]:
        (open_asks.add if kind == "ask" else open_asks.remove)(candidate)
        most = max(most, len(open_asks))
    return most


@pytest.mark.parametrize(("count", "ahead"), [(1, 0), (2, 0), (WORKERS_PER_PREFETCH - 1, 0), (MANY_WORKERS, 3)])
def test_only_many_workers_are_asked_ahead_for(count: int, ahead: int, setup_of, tmp_path: Path) -> None:
    workers = Workers(count, ending=min(count, 5))
    loop = loop_in(tmp_path / "run", setup_of(budget={"candidates": count + 40}), workers)
    finish(loop)
    assert most_open(tmp_path / "run") == count + ahead
    assert len(workers.submitted) == len(set(workers.submitted)) == count + 40 + len(loop.setup.references)


def test_a_freed_worker_does_not_wait_for_the_ledger(setup_of, tmp_path: Path) -> None:
    workers = Workers(MANY_WORKERS, ending=3)
    loop = loop_in(tmp_path / "run", setup_of(budget={"candidates": 240}), workers)
    recorded: list[tuple[int, int]] = []
    workers.on_submit = lambda: recorded.append((len(workers.submitted), loop.state.done))
    finish(loop)
    references = len(loop.setup.references)
    late = [submitted - done - references for submitted, done in recorded if MANY_WORKERS + 20 < submitted < 240]
    assert len(late) > 100
    # Were the three results of each wait recorded before, there would be fewer open than workers at every submit.
    assert set(late) == {MANY_WORKERS, MANY_WORKERS + 1, MANY_WORKERS + 2}


def test_what_workers_note_is_said_once(setup_of, tmp_path: Path) -> None:
    class Noting(Workers):
        def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
            return [(job, replace(outcome, notes=("slow", "cold"))) for job, outcome in super().wait(timeout)]

    loop = loop_in(tmp_path / "run", setup_of(budget={"candidates": 20}), Noting(2))
    finish(loop)
    assert isinstance(loop.observer, Listening)
    assert [line for line in loop.observer.said if line in ("slow", "cold")] == ["cold", "slow"]


@contextmanager
def dying(commits: int) -> Iterator[None]:
    """Let the driver die right after so many commits."""
    real, left = Ledger.transaction, commits

    @contextmanager
    def counted(self: Ledger, **options: Any) -> Iterator[None]:
        nonlocal left
        with real(self, **options):
            yield
        left -= 1
        if left < 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "transaction", counted)
        yield


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "cma"},
        {"optimizer": {"name": "nsga2", "popsize": 8}, "tasks": [task(), task("otherness")]},
        {"space": {"method": "passthrough", "genes": {"source": {"per": "layer"}}}, "optimizer": "random"},
    ],
    ids=["cma", "nsga2", "repeats"],
)
@pytest.mark.parametrize(("ending", "most_commits"), [(1, 80), (5, 18), (40, 12)])  # some ten deaths
def test_a_driver_that_dies_after_any_commit_goes_on_as_if_it_had_not(
    ending: int, most_commits: int, changes: dict[str, Any], setup_of, tmp_path: Path
) -> None:
    setup = setup_of(budget={"candidates": 150}, **changes)
    finish(loop_in(tmp_path / "whole", setup, Workers(MANY_WORKERS, ending), tick=0.01))
    chance, deaths = random.Random(ending), 0
    for _ in range(1000):
        workers = Workers(MANY_WORKERS, ending)
        with dying(chance.randrange(1, most_commits)):
            try:
                loop = loop_in(tmp_path / "torn", setup, workers, tick=0.01)
                finish(loop)
                break
            except Killed:
                deaths += 1
        loop.ledger.close()
        assert not others(loop), "the recorded calls no longer give the recorded points"
    assert deaths >= 3
    torn = rows(tmp_path / "torn", "step")["step"]
    told = [candidate for _, kind, candidate, *_ in torn if kind == "tell"]
    assert len(told) == len(set(told)) == 150
    assert set(states(tmp_path / "torn")) == {"scored"}
    if ending <= 5:  # with more, a death divides the results that are recorded together in another way
        assert differences(tmp_path / "whole", tmp_path / "torn") == []


def test_results_in_any_order_are_replayed_exactly(setup_of, tmp_path: Path) -> None:
    setup = setup_of(budget={"candidates": 200})
    chance, scored = random.Random(0), 0
    for commits in (30, 31, 7, 40, 10_000):
        workers = Workers(MANY_WORKERS, 7, order=lambda job: chance.random())
        loop = loop_in(tmp_path / "run", setup, workers)
        assert loop.state.done >= scored
        scored = loop.state.done
        with dying(commits):
            try:
                finish(loop)
            except Killed:
                loop.ledger.close()
        assert not others(loop)
    assert loop.state.done == 200
    assert set(states(tmp_path / "run")) == {"scored"}


def test_stop_starts_nothing_more_and_the_next_session_scores_what_was_asked_ahead(setup_of, tmp_path: Path) -> None:
    setup = setup_of(budget={"candidates": 220})
    workers = Workers(MANY_WORKERS)
    stopping: list[bool] = []
    loop = loop_in(tmp_path / "run", setup, workers, stop=lambda: bool(stopping))
    watch = loop._reporter.update

    def show(*args: Any, **kwargs: Any) -> None:
        watch(*args, **kwargs)
        if loop.state.done >= 100 and not stopping:
            stopping.append(True)
            begun.extend(workers.submitted)

    begun: list[int] = []
    loop._reporter.update = show  # type: ignore[method-assign]
    finish(loop)
    assert workers.submitted == begun and not workers.running
    assert states(tmp_path / "run").count("running") == 3
    again = Workers(MANY_WORKERS)
    resumed = loop_in(tmp_path / "run", setup, again)
    finish(resumed)
    assert not set(begun) & set(again.submitted), "a candidate was scored twice"
    assert len({*begun, *again.submitted}) == 220 + len(setup.references)
    assert set(states(tmp_path / "run")) == {"scored"}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_stop_between_ask_and_start_leaves_nobody_waiting(setup_of, tmp_path: Path, count: int) -> None:
    """Few workers: whoever was asked for a free worker is scored before the search ends."""
    setup = setup_of(budget={"candidates": 60})
    stopping: list[bool] = []
    loop = loop_in(tmp_path / "run", setup, Workers(count, ending=1), stop=lambda: bool(stopping))
    ask = loop.optimizer.ask

    def asked() -> Any:
        if loop.state.done >= 20:
            stopping.append(True)
        return ask()

    loop.optimizer.ask = asked  # type: ignore[method-assign]
    finish(loop)
    assert stopping and set(states(tmp_path / "run")) == {"scored"}
    assert 20 < loop.state.done < 60


def test_what_is_asked_ahead_starts_within_a_budget_of_items(setup_of, tmp_path: Path) -> None:
    setup = setup_of(budget={"items": 250 * SUBSET})
    workers = Workers(MANY_WORKERS)
    loop = loop_in(tmp_path / "run", setup, workers)
    spent: list[int] = []
    workers.on_submit = lambda: spent.append(loop.state.items)
    finish(loop)
    assert most_open(tmp_path / "run") == MANY_WORKERS + 3
    assert max(spent) < 250 * SUBSET <= loop.state.items < (250 + MANY_WORKERS) * SUBSET
    assert set(states(tmp_path / "run")) == {"scored"}


def test_what_is_asked_ahead_starts_within_a_budget_of_time(setup_of, tmp_path: Path) -> None:
    workers = Workers(MANY_WORKERS)
    loop = loop_in(tmp_path / "run", setup_of(budget={"hours": 1}), workers)
    spent: list[float] = []
    workers.on_submit = lambda: spent.append(workers.now)
    finish(loop, end=6.0)
    assert most_open(tmp_path / "run") == MANY_WORKERS + 3
    assert 5.9 < max(spent) < 6.0
    assert workers.now < 7.1, "longer than the candidates take that ran when the time was up"
    assert set(states(tmp_path / "run")) == {"scored"}


@pytest.fixture
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that keeps less in memory shows with fewer candidates what it does not keep."""
    monkeypatch.setattr("evomerge.run.loop._state.MAX_LATEST", LATEST)
    monkeypatch.setattr("evomerge.run.loop._state.MAX_LEADING", LEADING)


@pytest.mark.usefixtures("few_kept")
def test_who_leads_is_sought_among_references_and_the_best(setup_of, tmp_path: Path) -> None:
    setup = setup_of(budget={"candidates": 3 * LEADING})
    loop = loop_in(tmp_path / "run", setup, Workers(MANY_WORKERS))
    finish(loop)
    found = loop.state.leading
    everybody = Ledger.read(tmp_path / "run" / "ledger.sqlite").candidates()
    candidates = [each for each in everybody if each.kind == "candidate"]
    best = sorted(candidates, key=lambda each: -each.scores["search"]["nearness"].value)[:LEADING]
    references = {each.id for each in everybody if each.kind != "candidate"}
    assert set(found) == {each.id for each in best} | references
    assert loop_in(tmp_path / "run", setup, Workers(MANY_WORKERS)).state.leading == found, (
        "a resumed run knows the same"
    )


@pytest.mark.usefixtures("few_kept")
def test_a_night_of_candidates_stays_on_disk(setup_of, tmp_path: Path) -> None:
    """The driver holds the items of the latest and of the leading, and the recipes of those that are being scored."""
    setup = setup_of(budget={"candidates": 3 * LATEST})
    loop = loop_in(tmp_path / "run", setup, Workers(MANY_WORKERS))
    finish(loop)
    ledger = Ledger.read(tmp_path / "run" / "ledger.sqlite")
    everybody = {each.id: each for each in ledger.candidates()}
    references = {each for each in everybody if each not in loop.state.numbers}
    assert set(loop.state.known) == references
    assert set(loop.state.table) == {*loop.state.latest, *loop.state.leading}
    assert set(loop.state.latest) == references | set(sorted(everybody)[-LATEST:])
    assert loop.state.scored == len(everybody) > len(loop.state.table)
    stored = ledger.items("search")
    assert all(stored[each] == items for each, items in loop.state.table.items())
    again = loop_in(tmp_path / "run", setup, Workers(MANY_WORKERS)).state
    for name in ("numbers", "floors", "failures", "done", "scored", "items", "latest", "leading"):
        assert getattr(again, name) == getattr(loop.state, name), name
