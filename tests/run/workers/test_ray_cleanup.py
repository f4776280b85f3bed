"""Nothing that evomerge started with Ray outlives it, neither processes nor folders; other clusters are left alone."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import evomerge
from evomerge.run import search
from evomerge.run.workers.ray import Session, processes_of, remove_stale
from tests.forked import Forked
from tests.ray_cluster import SharedCluster
from tests.run.pico_search import write_search

SLEEPER = "import sys, time; time.sleep(600)"


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for temporary files of its own, short enough for the names of sockets."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def sessions(base: Path) -> list[Path]:
    return sorted(base.glob("evomerge-ray-*"))


@pytest.fixture
def sleeper() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a process with some words in its command line."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", SLEEPER, *words]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_closed_session_leaves_nothing(base: Path, sleeper) -> None:
    session = Session()
    assert sessions(base) == [session.folder]
    mine = sleeper(f"--session-dir={session.folder}/session_1")
    other = sleeper("--session-dir=/tmp/ray/session_1")
    reader = sleeper(f"{session.folder}/session_1/logs")
    wait_for(lambda: [process.pid for process in processes_of(session.folder)] == [mine.pid])
    session.close()
    assert sessions(base) == []
    assert mine.wait(10) != 0
    assert other.poll() is None and reader.poll() is None, "only what belongs to the session is ended"


def test_stale_folders_are_removed_and_live_ones_are_not(base: Path) -> None:
    stale, live, young = (base / f"evomerge-ray-{name}" for name in ("stale", "live", "young"))
    foreign = base / "ray"
    for folder in (stale, live, young, foreign):
        folder.mkdir()
        (folder / "log").write_text("words")
    held = os.open(live / ".evomerge.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    for folder in (stale, live, foreign):
        os.utime(folder, (1, 1))
    remove_stale(base)
    assert sorted(path.name for path in base.iterdir()) == ["evomerge-ray-live", "evomerge-ray-young", "ray"]
    os.close(held)


@pytest.mark.ray
def test_nothing_outlives_a_killed_driver(pico: dict[str, Path], tmp_path: Path, base: Path) -> None:
    file = write_search(tmp_path, pico, workers={"count": 1})
    root, known = str(Path(evomerge.__file__).parents[1]), os.environ.get("PYTHONPATH", "")
    environment = {
        "PYTHONPATH": f"{root}{os.pathsep}{known}",
        "PICO_LOG": str(tmp_path / "calls.log"),
        "PICO_SLEEP": "2",
    }
    driver = Forked(search, file, tmp_path / "run", environment=environment)
    try:
        wait_for(lambda: (tmp_path / "calls.log.begun").exists() or driver.poll() is not None, 120)
        (folder,) = sessions(base)
        started = {process.pid: process for process in processes_of(folder)}
        names = " ".join(" ".join(process.cmdline()) for process in started.values())
        assert len(started) >= 4 and "raylet" in names and "ray::" in names
        driver.kill()
        killed = time.monotonic()
        wait_for(lambda: not any(map(alive, started.values())) and not sessions(base), 30)
        assert time.monotonic() - killed < 30
    finally:
        driver.kill()
    assert [path.name for path in base.iterdir()] == [], "nothing is left in Ray's folder either"


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.ray
def test_a_local_cluster_ends_when_it_is_closed(ray_cluster: SharedCluster) -> None:
    ray_cluster.join()
    (folder,) = sessions(ray_cluster.folder)
    started = processes_of(folder)
    assert started
    ray_cluster.close()
    assert not any(map(alive, started)) and list(ray_cluster.folder.iterdir()) == []
