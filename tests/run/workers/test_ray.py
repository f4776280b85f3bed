"""Ray workers: they finish a search, and a candidate survives the death of its worker. One cluster for all tests."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evomerge.errors import EvomergeError
from evomerge.run import (
    Progress,
    Run,
    SilentObserver,
    search,
)
from evomerge.run.workers.ray import LocalCluster, connect
from tests.run.pico_search import rows, task, write_search

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


def faulty(model, tokenizer, items):
    """Its first candidate fails once, its second always, its third takes the worker with it; the rest is sound."""
    if len(items) < items[0]["subset"]:
        raise AssertionError("no subset is smaller")
    if len(items) == items[0]["subset"]:
        FLAGS.mkdir(exist_ok=True)
        once(f"mark-{mark(model)}")
        marks = sorted(FLAGS.glob("mark-*"), key=lambda path: path.stat().st_mtime_ns)
        number = [path.name for path in marks].index(f"mark-{mark(model)}")
        with (FLAGS / f"processes-{number}").open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        if number == 2:
            os._exit(9)
        if number == 1 or (number == 0 and once("failed")):
            raise RuntimeError("as planned")
    return nearness(model, tokenizer, items)
'''


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray with three CPUs, started once: executors join it and leave it running."""
    import ray

    found = LocalCluster(ray, cpus=3)
    yield
    found.close()


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
            if "ray::RayWorker" in " ".join(process.cmdline()):
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
    ours, theirs = ({each.name: each.scores["search"] for each in r.candidates()[:8]} for r in (run, inline))
    assert ours == theirs, "a worker's scores are those of an inline run"
    end = time.monotonic() + 20
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert workers() == [], "no worker is left behind"


def test_a_killed_worker_costs_nothing_but_time(ray_search, tmp_path: Path) -> None:
    killed: list[int] = []

    class Killer(SilentObserver):
        def update(self, progress: Progress) -> None:
            if progress.phase == "searching" and progress.done >= 4 and not killed:
                victim = next((each for each in workers() if each.pid not in killed), None)
                if victim:
                    killed.append(victim.pid)
                    victim.send_signal(signal.SIGKILL)

    run = search(ray_search(tasks=[task("slow")]), tmp_path / "run", observer=Killer())
    assert len(killed) == 1
    assert_complete(run, 16)
    assert all(each.state == "scored" for each in run.candidates())
    attempts = attempts_of(run)
    assert sum(attempts.values()) - len(attempts) in (0, 1), "at most one candidate was tried twice"


def test_a_hanging_candidate_is_stopped_and_recorded_as_lost(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("hanging")], workers={"count": 2, "timeout": 15}, budget={"candidates": 8})
    run = search(file, tmp_path / "run")
    assert_complete(run, 8)
    (lost,) = [each for each in run.candidates() if each.state != "scored"]
    assert (lost.state, lost.failure.kind) == ("lost", "lost")
    assert "overran its time" in lost.failure.reason
    assert attempts_of(run)[lost.id] == 1, "who hangs once is not tried again"


def test_failures_are_tried_again_in_fresh_processes(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("faulty")], workers={"count": 1}, budget={"candidates": 4})
    run = search(file, tmp_path / "run")
    assert_complete(run, 4)
    attempts = attempts_of(run)
    found = [(each.state, attempts[each.id]) for each in run.candidates() if each.kind == "candidate"]
    assert found == [("scored", 2), ("failed", 2), ("lost", 3), ("scored", 1)]
    failed, lost = (each for each in run.candidates() if each.failure is not None)
    assert "raised RuntimeError: as planned" in failed.failure.reason
    assert "vanished every time" in lost.failure.reason
    for number, tries in ((0, 2), (1, 2), (2, 3)):
        processes = (tmp_path / "flags" / f"processes-{number}").read_text().split()
        assert len(processes) == len(set(processes)) == tries, "each try has a process of its own"


def test_an_interrupted_run_goes_on_with_other_workers(ray_search, tmp_path: Path) -> None:
    file = ray_search(tasks=[task("slow")], budget={"candidates": 14})

    class Stopper(SilentObserver):
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


def test_joining_ray_keeps_the_signal_handlers() -> None:
    """`ray.init` turns SIGTERM into an immediate exit; here it is a wish to stop in good order."""

    class FakeRay:
        @staticmethod
        def init(**options: Any) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if options["address"] == "nowhere":
                raise ConnectionError("no such cluster\nmany lines more")

    mine = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        ours = signal.getsignal(signal.SIGTERM)
        connect(FakeRay, None, cpus=1)
        assert signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(EvomergeError, match=r"joined \(no such cluster\); workers.count: 0 runs without"):
            connect(FakeRay, "nowhere", cpus=1)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, mine)
