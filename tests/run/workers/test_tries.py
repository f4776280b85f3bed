"""Which jobs Ray's executor tries again, and how often; a few lines without processes take the place of Ray."""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from evomerge.errors import EvomergeError
from evomerge.records import Failure, ItemScores
from evomerge.run.workers import Job, Outcome, WorkerSetup
from evomerge.run.workers.ray import RayExecutor

BATCH_SIZE = 8


class ActorDied(Exception):
    """What Ray raises for the answer of a process that is gone."""


class Answer:
    """What an actor will answer to a call."""

    def __init__(self, actor: Any, result: Callable[[], Any] | None):
        self.actor, self._result = actor, result

    @property
    def ready(self) -> bool:
        """A call that hangs has an answer when its process is gone."""
        return self._result is not None or not self.actor.alive

    def get(self) -> Any:
        if not self.actor.alive or self._result is None:
            raise ActorDied("the actor died")
        return self._result()


class PretendedRay:
    """Actors that do with each candidate's tries what they are told: score, fail, degenerate, die or hang.

    Attributes:
        tries: candidate -> (process, batch size) of each try.
    """

    exceptions = SimpleNamespace(RayError=ActorDied)

    def __init__(self, **candidates: Sequence[str]):
        self._plan = {int(name[1:]): list(kinds) for name, kinds in candidates.items()}
        self._processes = 0
        self.tries: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "node")

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **resources: Any) -> Callable[[type], Any]:
        return lambda kind: SimpleNamespace(options=lambda **given: SimpleNamespace(remote=lambda: self._actor(kind)))

    def _actor(self, kind: type) -> Any:
        self._processes += 1
        actor = SimpleNamespace(alive=True, process=self._processes)
        actor.identify = SimpleNamespace(remote=lambda: Answer(actor, kind().identify))
        actor.start = SimpleNamespace(remote=lambda *given: Answer(actor, lambda: None))
        actor.score = SimpleNamespace(remote=lambda job, batch_size: self._score(actor, job, batch_size))
        return actor

    def _score(self, actor: Any, job: Job, batch_size: int) -> Answer:
        self.tries[job.candidate].append((actor.process, batch_size))
        kind = self._plan[job.candidate].pop(0)
        actor.alive = kind != "die"
        failure = None if kind == "score" else Failure(kind="failed" if kind == "fail" else "degenerate", reason=kind)
        items = {"task": ItemScores(ids=(0,), values=(1.0,))} if failure is None else None
        outcome = Outcome(items=items, failure=failure, seconds=0.1, worker="pretended")
        return Answer(actor, None if kind == "hang" else lambda: outcome)

    def wait(self, answers: list[Answer], *, num_returns: int, timeout: float) -> tuple[list[Answer], list[Answer]]:
        done = [answer for answer in answers if answer.ready][:num_returns]
        return done, [answer for answer in answers if answer not in done]

    def get(self, answer: Answer) -> Any:
        return answer.get()

    def kill(self, actor: Any) -> None:
        actor.alive = False


def outcomes(ray: PretendedRay, monkeypatch: pytest.MonkeyPatch, count: int = 1, **options: Any) -> dict[int, Outcome]:
    """Return candidate -> outcome of one job for each planned candidate."""
    monkeypatch.setitem(sys.modules, "ray", ray)
    setup: Any = WorkerSetup(parents=(), root=None, prepared=None, batch_size=BATCH_SIZE, threads=1, device="cpu")  # type: ignore[arg-type]
    executor = RayExecutor(setup, count=count, gpus=0, address=None, **{"timeout": None, **options})
    waiting = [Job(candidate=number, pool="search", document={}, items={"task": (0,)}) for number in ray._plan]
    found: dict[int, Outcome] = {}
    for _ in range(200):
        while waiting and executor.free:
            executor.submit(waiting.pop(0))
        found.update({job.candidate: outcome for job, outcome in executor.wait(0.0)})
        if len(found) == len(ray._plan):
            break
    executor.close()
    return found


def test_a_job_whose_worker_dies_twice_is_scored_by_a_third(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = PretendedRay(c0=["die", "die", "score"], c1=["score"])
    found = outcomes(ray, monkeypatch)
    assert (found[0].failure, found[0].attempts) == (None, 3)
    assert (found[1].failure, found[1].attempts) == (None, 1)
    assert len({process for process, _ in ray.tries[0]}) == 3, "each try has a process of its own"
    assert {size for _, size in ray.tries[0]} == {BATCH_SIZE}, "it may not be the job's fault"


def test_a_job_whose_worker_dies_every_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(PretendedRay(c0=["die"] * 3, c1=["score"]), monkeypatch)
    assert found[0].failure is not None and found[0].failure.kind == "lost"
    assert (found[0].failure.reason, found[0].attempts) == ("its worker vanished every time", 3)
    assert found[1].failure is None


def test_a_job_that_hangs_is_lost_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = PretendedRay(c0=["hang"])
    found = outcomes(ray, monkeypatch, timeout=0.0)
    assert found[0].failure is not None
    assert (found[0].failure.kind, found[0].failure.reason) == ("lost", "overran its time and was stopped")
    assert len(ray.tries[0]) == 1


def test_a_job_that_fails_is_tried_again_with_half_the_batch_in_a_fresh_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = PretendedRay(c0=["fail", "score"], c1=["fail", "fail"], c2=["degenerate"])
    found = outcomes(ray, monkeypatch)
    assert (found[0].failure, found[0].attempts) == (None, 2)
    assert found[1].failure is not None and (found[1].failure.kind, found[1].attempts) == ("failed", 2)
    assert found[2].failure is not None and (found[2].failure.kind, found[2].attempts) == ("degenerate", 1)
    for tries in (ray.tries[0], ray.tries[1]):
        assert [size for _, size in tries] == [BATCH_SIZE, BATCH_SIZE // 2]
        assert tries[0][0] != tries[1][0]


def test_workers_that_die_one_after_another_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = PretendedRay(**{f"c{number}": ["die"] * 3 for number in range(4)})
    with pytest.raises(EvomergeError, match="workers die one after another; the last error: the actor died"):
        outcomes(ray, monkeypatch)
    assert len(ray.tries) == 2, "five deaths may be the fault of two jobs, six are the machine's"
