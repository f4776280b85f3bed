"""Ray workers: they finish a search, and a candidate survives the death of its worker. One cluster for all tests."""

import signal
import time
from collections import Counter
from collections.abc import Callable
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
from evomerge.run.workers import Job
from evomerge.run.workers.ray import RayExecutor, connect
from tests.ray_cluster import SharedCluster
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


def slow_then_faulty(model, tokenizer, items):
    """Slow until a flag says "faulty"; of the candidates after that, the first hangs, the second fails always."""
    if len(items) < items[0]["subset"]:
        raise AssertionError("no subset is smaller")
    if not (FLAGS / "faulty").exists():
        time.sleep(0.1)
        return nearness(model, tokenizer, items)
    if len(items) == items[0]["subset"]:
        FLAGS.mkdir(exist_ok=True)
        once(f"mark-{mark(model)}")
        marks = sorted(FLAGS.glob("mark-*"), key=lambda path: path.stat().st_mtime_ns)
        number = [path.name for path in marks].index(f"mark-{mark(model)}")
        with (FLAGS / f"processes-{number}").open("a") as stream:
            stream.write(f"{os.getpid()}\\n")
        if number == 0:
            (FLAGS / "hung").touch()
            time.sleep(1000)
        if number == 1:
            raise RuntimeError("as planned")
    return nearness(model, tokenizer, items)
'''


@pytest.fixture
def ray_search(ray_cluster: SharedCluster, pico: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a search whose workers are Ray's: (**changes) -> the file."""
    ray_cluster.join()

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


def test_a_search_loses_workers_is_stopped_and_goes_on_with_another_that_hangs_and_fails(
    ray_search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search for all of it: each worker that starts loads torch."""
    flags = tmp_path / "flags"

    def limit(self: RayExecutor, job: Job) -> float:
        """Who hangs has had its time; on a busy machine, the first candidate of a fresh process takes long."""
        if not (flags / "hung").exists():
            return float("inf")
        (flags / "hung").unlink()
        return 0.0

    monkeypatch.setattr(RayExecutor, "_limit", limit)
    whole = {"race": "off", "finalists": 2}  # the scorer tells a search's subsets by their size from a proof's items
    file = ray_search(tasks=[task("slow_then_faulty")], budget={"candidates": 16}, proof=whole)
    killed: list[int] = []

    class Troublemaker(SilentObserver):
        """Kills one of two workers, and later asks the driver to stop."""

        def update(self, progress: Progress) -> None:
            if progress.phase == "searching" and progress.done >= 4 and not killed:
                victim = workers()[0]
                killed.append(victim.pid)
                victim.send_signal(signal.SIGKILL)
            if progress.phase == "searching" and progress.done == 8:
                signal.raise_signal(signal.SIGTERM)

    run = search(file, tmp_path / "run", observer=Troublemaker())
    assert run.state == "searching" and len(killed) == 1
    assert all(each.state == "scored" for each in run.candidates())
    attempts = attempts_of(run)
    assert sum(attempts.values()) - len(attempts) in (0, 1), "at most one candidate was tried twice"
    assert {each.worker for each in run.candidates()} >= {"ray-0", "ray-1"}

    before, asked = rows(run.path, "score", "item", "step"), len(run.candidates())
    flags.mkdir(exist_ok=True)
    (flags / "faulty").touch()
    run = search(file, tmp_path / "run", workers=1)
    assert_complete(run, 16)
    after = rows(run.path, "score", "item", "step")
    assert all(after[table][: len(kept)] == kept for table, kept in before.items())
    attempts = attempts_of(run)
    later = [each for each in run.candidates() if each.kind == "candidate" and each.id >= asked]
    found = [(each.state, attempts[each.id]) for each in later]
    assert len(found) >= 3 and found == [("lost", 1), ("failed", 2), *[("scored", 1)] * (len(found) - 2)]
    lost, failed = (each.failure for each in later[:2])
    assert lost is not None and lost.kind == "lost" and "overran its time" in lost.reason, "once is enough"
    assert failed is not None and "raised RuntimeError: as planned" in failed.reason
    tried = [(flags / f"processes-{number}").read_text().split() for number in range(3)]
    assert [len(set(processes)) for processes in tried] == [1, 2, 1], "each try has a process of its own"

    inline = search(file, tmp_path / "inline", workers=0, candidates=1)
    ours, theirs = ({each.name: each.scores["search"] for each in r.candidates()[:8]} for r in (run, inline))
    assert ours == theirs, "a worker's scores are those of an inline run"
    end = time.monotonic() + 60
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert workers() == [], "no worker is left behind"


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
        with pytest.raises(EvomergeError, match=r"joined \(no such cluster\)\. A cluster .*RAY_AUTH_TOKEN_PATH"):
            connect(FakeRay, "nowhere", cpus=1)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, mine)
