"""Ray workers: they finish a search, and a candidate survives the death of its worker. One cluster for all tests."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pico_search import rows, task, write_search

from evomerge.errors import EvomergeError
from evomerge.run import Progress, Run, Silent, WorkerSetup, inspect, search

pytestmark = pytest.mark.ray

FAULTS = '''

import pathlib

FLAGS = pathlib.Path(__file__).parent / "flags"


def once(name):
    """Whether nobody asked this before."""
    FLAGS.mkdir(exist_ok=True)
    try:
        (FLAGS / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def slow(model, tokenizer, items):
    time.sleep(0.1)
    return nearness(model, tokenizer, items)


def hanging(model, tokenizer, items):
    """Hangs on one candidate, the first that is asked, for ever."""
    if len(items) == items[0]["subset"] and once("hung"):
        time.sleep(1000)
    return nearness(model, tokenizer, items)


def failing_once(model, tokenizer, items):
    if len(items) == items[0]["subset"] and once("failed"):
        (FLAGS / "process").write_text(str(os.getpid()))
        raise RuntimeError("the first one always fails")
    if (FLAGS / "process").exists() and once("again"):
        (FLAGS / "after").write_text(str(os.getpid()))
    return nearness(model, tokenizer, items)


def failing(model, tokenizer, items):
    if len(items) == items[0]["subset"]:
        raise RuntimeError("always")
    return nearness(model, tokenizer, items)


def vanishing(model, tokenizer, items):
    """Takes its worker with it."""
    if len(items) == items[0]["subset"]:
        os._exit(9)
    return nearness(model, tokenizer, items)
'''


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray with three processors, started once: executors join it and leave it running."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def ray_search(cluster: None, pico: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a search whose workers are Ray's: (**changes) -> the file."""

    def write(**changes: Any) -> Path:
        file = write_search(tmp_path, pico, **{"workers": {"count": 2}, "budget": {"candidates": 16}, **changes})
        with (tmp_path / "near.py").open("a") as stream:
            stream.write(FAULTS)
        return file

    return write


def workers() -> list[psutil.Process]:
    """Return the processes that score candidates."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::CandidateScorer" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def attempts_of(run: Run) -> dict[int, int]:
    return {row[0]: row[12] for row in rows(run.path, "candidate")["candidate"]}


def assert_complete(run: Run, candidates: int) -> None:
    searched = [each for each in run.candidates() if each.kind == "candidate"]
    assert run.state == "done"
    assert len(searched) == candidates
    assert all(each.state != "running" for each in run.candidates())
    told = Counter(row[2] for row in rows(run.path, "step")["step"] if row[1] == "tell")
    assert told == Counter(each.id for each in searched), "each candidate is told exactly once"


def test_two_workers_finish_a_search(ray_search, tmp_path: Path) -> None:
    run = search(ray_search(), tmp_path / "run")
    assert_complete(run, 16)
    assert {each.worker for each in run.candidates()} >= {"ray-0", "ray-1"}
    inline = search(tmp_path / "search.yaml", tmp_path / "inline", workers=0)
    ours, theirs = ({each.name: each.scores["search"] for each in r.candidates()[:9]} for r in (run, inline))
    assert ours == theirs, "a worker's scores are those of an inline run"
    end = time.monotonic() + 20
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert workers() == [], "no worker is left behind"


def test_a_killed_worker_costs_nothing_but_time(ray_search, tmp_path: Path) -> None:
    killed: list[int] = []

    class Killer(Silent):
        def update(self, progress: Progress) -> None:
            if progress.phase == "searching" and progress.done >= 3 + 5 * len(killed) and len(killed) < 2:
                victim = next((each for each in workers() if each.pid not in killed), None)
                if victim:
                    killed.append(victim.pid)
                    victim.send_signal(signal.SIGKILL)

    run = search(ray_search(tasks=[task("slow")]), tmp_path / "run", observer=Killer())
    assert len(killed) == 2
    assert_complete(run, 16)
    assert all(each.state == "scored" for each in run.candidates())
    assert 1 <= sum(attempts > 1 for attempts in attempts_of(run).values()) <= 2


def test_a_hanging_candidate_is_stopped_and_recorded_as_lost(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("hanging")], workers={"count": 2, "timeout": 12}, budget={"candidates": 8})
    run = search(file, tmp_path / "run")
    assert_complete(run, 8)
    (lost,) = [each for each in run.candidates() if each.state != "scored"]
    assert (lost.state, lost.failure.kind) == ("lost", "lost")
    assert "overran its time" in lost.failure.reason
    assert attempts_of(run)[lost.id] == 1, "who hangs once is not tried again"


def test_a_failure_is_tried_once_more_in_a_fresh_process(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("failing_once")], workers={"count": 1}, budget={"candidates": 3})
    run = search(file, tmp_path / "run")
    assert_complete(run, 3)
    assert all(each.state == "scored" for each in run.candidates())
    assert sorted(attempts_of(run).values())[-2:] == [1, 2]
    flags = tmp_path / "flags"
    assert (flags / "process").read_text() != (flags / "after").read_text()


def test_what_fails_twice_is_failed(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("failing")], workers={"count": 1}, budget={"candidates": 1})
    with pytest.raises(EvomergeError, match="no candidate could be scored"):
        search(file, tmp_path / "run")
    run = Run(tmp_path / "run")
    (failed,) = [each for each in run.candidates() if each.kind == "candidate"]
    assert (failed.state, attempts_of(run)[failed.id]) == ("failed", 2)
    assert "raised RuntimeError: always" in failed.failure.reason


def test_a_candidate_that_kills_its_workers_is_lost(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("vanishing")], workers={"count": 1}, budget={"candidates": 1})
    with pytest.raises(EvomergeError, match="no candidate could be scored"):
        search(file, tmp_path / "run")
    run = Run(tmp_path / "run")
    (lost,) = [each for each in run.candidates() if each.kind == "candidate"]
    assert (lost.state, attempts_of(run)[lost.id]) == ("lost", 3)
    assert "vanished every time" in lost.failure.reason


def test_an_interrupted_run_goes_on_with_other_workers(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("slow")], budget={"candidates": 14})

    class Stopper(Silent):
        def update(self, progress: Progress) -> None:
            if progress.phase == "searching" and progress.done == 4:
                signal.raise_signal(signal.SIGTERM)

    run = search(file, tmp_path / "run", observer=Stopper())
    assert run.state == "searching"
    assert all(each.state != "running" for each in run.candidates())
    before = rows(run.path, "score", "item", "step")
    assert_complete(search(file, tmp_path / "run", workers=1), 14)
    after = rows(run.path, "score", "item", "step")
    assert all(after[table][: len(kept)] == kept for table, kept in before.items())


def test_an_executor_of_its_own_cluster_keeps_the_signal_handlers(ray_search) -> None:
    """`ray.init` would turn SIGTERM into an immediate exit."""
    import ray

    from evomerge.run import _ray

    setup = inspect(ray_search())
    ray.shutdown()
    mine = signal.getsignal(signal.SIGTERM)
    shared = WorkerSetup(
        parents=setup.refs, root=setup.folder, prepared=setup.prepared, batch_size=8, threads=1, device="cpu"
    )
    executor = _ray.RayExecutor(shared, count=1, gpus=0, address=None, timeout=None)
    try:
        assert signal.getsignal(signal.SIGTERM) == mine
        assert executor.free == 1
        assert executor.wait(0.1) == []
    finally:
        executor.close()
    assert not ray.is_initialized()
