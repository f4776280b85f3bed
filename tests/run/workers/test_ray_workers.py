"""Workers that come and go, with a miniature Ray: who gets which job, and what is said when nobody can."""

import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from evomerge.errors import EvomergeError, SelfCheckFailed
from evomerge.records import Failure
from evomerge.run import Job, Outcome
from evomerge.run.workers.ray import RayExecutor, WorkerInfo, WorkerPool
from tests.run.workers.fake_ray import VERSION, Broken, FakeRay, RayError, done

POOL = "evomerge.run.workers.ray._pool"
EXECUTOR = "evomerge.run.workers.ray._executor"


class FakeSetup:
    """As much of a WorkerSetup as an executor reads."""

    threads, batch_size = 1, 64
    places: ClassVar[dict[str, Any]] = {}


def job(number: int) -> Job:
    return Job(candidate=number, pool="search", document={}, items={"a": (1, 2)})


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RayExecutor, list[str]]]:
    """(ray, count) -> an executor on a miniature Ray whose driver is on node "home", and what it says."""

    def build(ray: FakeRay, count: int, **options: Any) -> tuple[RayExecutor, list[str]]:
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setattr(
            "evomerge.run.workers.ray._pool.worker_info", lambda: WorkerInfo("home", "host-home", VERSION)
        )
        monkeypatch.setattr(WorkerPool, "_parent_server", lambda self: "the parents' source")
        monkeypatch.setattr(f"{POOL}.time.sleep", lambda seconds: None)
        said: list[str] = []
        defaults = {"gpus": 0.0, "address": "auto", "timeout": None, "say": said.append}
        return RayExecutor(FakeSetup(), count=count, **{**defaults, **options}), said  # type: ignore[arg-type]

    return build


def settle(executor: RayExecutor) -> list[tuple[Job, Outcome]]:
    """Let everything happen that can."""
    found = []
    for _ in range(6):
        found += executor.wait(0.0)
    return found


def finish(ray: FakeRay, number: int, outcome: Outcome | Exception | None = None) -> None:
    """Answer the job of one candidate."""
    (call,) = [each for each in ray.jobs() if each.arguments[0].candidate == number]
    call.answer = outcome or done(call.arguments[0])


def at_work(ray: FakeRay) -> dict[int, str]:
    """Return candidate -> node that works on it."""
    return {call.arguments[0].candidate: call.actor.node for call in ray.jobs()}


def test_a_search_starts_with_the_workers_there_are_and_takes_those_that_join(start) -> None:
    ray = FakeRay(home=1)
    executor, _ = start(ray, count=3)
    assert (executor.free, executor.workers) == (0, 0), "nothing is asked for before somebody can work on it"
    settle(executor)
    assert (executor.free, executor.workers) == (1, 1)
    executor.submit(job(0))
    assert executor.free == 0
    ray.nodes["second"] = 2
    settle(executor)
    assert (executor.free, executor.workers) == (2, 3), "while the first is still at work"
    executor.submit(job(1))
    executor.submit(job(2))
    assert at_work(ray) == {0: "home", 1: "second", 2: "second"}
    finish(ray, 1)
    assert [(each.candidate, outcome.attempts) for each, outcome in settle(executor)] == [(1, 1)]


def test_workers_on_other_nodes_are_told_where_the_parents_are(start) -> None:
    ray = FakeRay(home=1, second=1)
    settle(start(ray, count=2)[0])
    sources = {actor.node: call.arguments[2] for actor in ray.actors for call in actor.calls if call.name == "start"}
    assert sources == {"home": None, "second": "the parents' source"}


def test_the_job_of_a_node_that_left_goes_to_the_next_free_worker(start) -> None:
    ray = FakeRay(home=1, second=1)
    executor, _ = start(ray, count=2)
    settle(executor)
    executor.submit(job(0))
    executor.submit(job(1))
    (on_second,) = [number for number, node in at_work(ray).items() if node == "second"]
    ray.leave("second")
    assert settle(executor) == []
    assert at_work(ray) == {1 - on_second: "home"}, "its worker has no place, and nobody else is free"
    assert (executor.free, executor.workers) == (0, 1)
    finish(ray, 1 - on_second)
    assert [each.candidate for each, _ in settle(executor)] == [1 - on_second]
    assert at_work(ray) == {on_second: "home"}, "it did not wait for its own worker to find a place"
    assert executor.free == 0
    finish(ray, on_second)
    assert [(each.candidate, outcome.attempts) for each, outcome in settle(executor)] == [(on_second, 2)]
    ray.nodes["third"] = 1
    settle(executor)
    assert executor.free == 2, "the lost worker came up on the node that joined"


def test_all_nodes_may_leave(start) -> None:
    ray = FakeRay(home=0, second=2)
    executor, _ = start(ray, count=2)
    settle(executor)
    executor.submit(job(0))
    ray.leave("second")
    assert settle(executor) == []
    assert (executor.free, executor.workers) == (0, 0)
    ray.nodes["third"] = 1
    settle(executor)
    assert at_work(ray) == {0: "third"}


def test_waiting_for_room_is_not_silent(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{POOL}.NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(f"{POOL}.REMINDER_SECONDS", 0.0)
    ray = FakeRay(home=0)
    executor, said = start(ray, count=2)
    settle(executor)
    assert len(said) > 1, "again and again while there is no worker at all"
    expected = (
        "2 of 2 workers have no place yet: each needs 1 CPU on one machine; the cluster has 0 CPU, free are 0 CPU"
    )
    assert set(said) == {expected}
    ray.nodes["second"] = 1
    settle(executor)
    said.clear()
    settle(executor)
    assert said == [], "once is enough while others work"
    ray.nodes["second"] = 2
    settle(executor)
    assert executor.workers == 2 and said == []


def test_gpus_that_are_missing_are_named(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{POOL}.NOTICE_SECONDS", 0.0)
    executor, said = start(FakeRay(home=0), count=1, gpus=2.0)
    executor.wait(0.0)
    assert "each needs 1 CPU and 2 GPU on one machine; the cluster has 0 CPU and 0 GPU" in said[0]


def test_one_broken_node_does_not_end_the_run(start) -> None:
    ray = FakeRay(home=1, second=1)
    ray.broken["second"] = Broken("no room on its disk")
    executor, said = start(ray, count=2)
    settle(executor)
    assert executor.workers == 1
    assert said == ["a worker on host-second cannot start: no room on its disk"] * 2
    states = sorted(slot.state for slot in executor.pool.slots)
    assert states == ["backoff", "up"], "it pauses before it tries a third time"
    for slot in executor.pool.slots:
        slot.until = 0.0
    del ray.broken["second"]
    settle(executor)
    assert executor.workers == 2


def test_workers_that_can_start_nowhere_end_the_run_with_the_reason(start) -> None:
    ray = FakeRay(home=2)
    ray.broken["home"] = Broken("the parents are gone\nmany more words")
    executor, _ = start(ray, count=2)
    with pytest.raises(EvomergeError, match=r"a worker on host-home cannot start: the parents are gone$"):
        settle(executor)


def test_another_version_of_evomerge_is_refused(start) -> None:
    ray = FakeRay(home=1, second=1)
    ray.versions["second"] = "0.9"
    executor, said = start(ray, count=2)
    settle(executor)
    assert executor.workers == 1
    assert said[0] == "a worker on host-second cannot start: evomerge is 0.9 there and 1.0 here; install the same"


@pytest.mark.parametrize("stage", ["start", "score"])
def test_a_failed_self_check_ends_the_run(start, stage: str) -> None:
    ray = FakeRay(home=1, second=1)
    if stage == "start":
        ray.broken["second"] = SelfCheckFailed("model.norm.weight differs")
    executor, _ = start(ray, count=2)
    with pytest.raises(SelfCheckFailed, match=r"model\.norm\.weight differs"):
        settle(executor)
        executor.submit(job(0))
        finish(ray, 0, SelfCheckFailed("model.norm.weight differs"))
        settle(executor)


def test_a_candidate_that_takes_three_workers_with_it_is_lost(start) -> None:
    ray = FakeRay(home=2)
    executor, _ = start(ray, count=2)
    settle(executor)
    executor.submit(job(0))
    for _ in range(3):
        finish(ray, 0, RayError("out of memory\nand more"))
        found = settle(executor)
    ((lost, outcome),) = found
    assert (lost.candidate, outcome.attempts, outcome.failure.kind) == (0, 3, "lost")
    assert "vanished every time" in outcome.failure.reason and outcome.failure.detail == "out of memory"
    assert executor.free == 2


def test_a_candidate_that_overruns_its_time_is_lost_at_once(start, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(home=2)
    executor, _ = start(ray, count=2, timeout=100.0)
    settle(executor)
    executor.submit(job(0))
    (sent,) = ray.jobs()
    assert settle(executor) == [] and not sent.actor.dead
    later = time.monotonic() + 101.0
    monkeypatch.setattr(f"{EXECUTOR}.time.monotonic", lambda: later)
    ((lost, outcome),) = settle(executor)
    assert sent.actor.dead and (lost.candidate, outcome.attempts, outcome.failure.kind) == (0, 1, "lost")
    assert "overran its time" in outcome.failure.reason


def test_workers_that_only_die_end_the_run(start) -> None:
    ray = FakeRay(home=2)
    executor, _ = start(ray, count=2)
    with pytest.raises(EvomergeError, match="die one after another; the last error: the driver is gone"):
        for number in range(20):
            settle(executor)
            if executor.free:
                executor.submit(job(number))
            for each in at_work(ray):
                finish(ray, each, RayError("the driver is gone"))


@pytest.mark.parametrize("again", ["fails", "is sound"])
def test_a_failure_is_tried_again_elsewhere_with_half_the_batch(start, again: str) -> None:
    ray = FakeRay(home=2)
    executor, _ = start(ray, count=2)
    settle(executor)
    executor.submit(job(0))
    (first,) = ray.jobs()
    failed = Outcome(items=None, failure=Failure(kind="failed", reason="out of memory"), seconds=1.0, worker="w")
    finish(ray, 0, failed)
    assert settle(executor) == []
    (second,) = ray.jobs()
    assert second.actor is not first.actor and first.actor.dead
    assert (first.arguments[1], second.arguments[1]) == (64, 32)
    finish(ray, 0, failed if again == "fails" else done(job(0)))
    ((_, outcome),) = settle(executor)
    assert (outcome.failure, outcome.attempts) == (failed.failure if again == "fails" else None, 2)


def test_a_worker_that_does_not_come_up_is_replaced(start, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(home=1)
    monkeypatch.setattr(ray, "broken", {"home": None})  # its start is never answered
    executor, said = start(ray, count=1)
    settle(executor)
    assert executor.workers == 0
    first = ray.actors[0]
    monkeypatch.setattr(f"{POOL}.START_SECONDS", -1.0)
    ray.broken.clear()
    executor.wait(0.0)
    assert first.dead and "cannot start: the actor died: killed" in said[0]
    monkeypatch.setattr(f"{POOL}.START_SECONDS", 900.0)
    settle(executor)
    assert executor.workers == 1
