"""The folder and the processes of a Ray cluster that evomerge started on this machine, and their end.

When its driver is killed, Ray leaves two agents running for minutes, and every session's folder forever. A cluster
that evomerge starts therefore gets a folder of its own, `evomerge-ray-*` in Ray's place for temporary files, and a
small watchdog process (this file, run as a script). When the driver is gone, or closes the pipe to it, the watchdog
ends every process that belongs to that folder and removes it. Processes of other clusters name or open nothing there,
so none is touched.
This file imports neither evomerge nor Ray, so that the watchdog takes 15 MB and a tenth of a second.
"""

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import psutil

PREFIX = "evomerge-ray-"
LOCK = ".evomerge.lock"  # held by the driver and by the watchdog: a folder whose lock is free belongs to nobody
POLL_SECONDS = 1.0  # between two looks at the driver; its end closes the pipe and is usually seen at once
TERMINATE_SECONDS = 3.0  # for processes to end when asked to, before they are killed
LOOK_SECONDS = 0.02  # between two looks at them
END_SECONDS = 20.0  # for all of it
CLOSE_SECONDS = 10.0  # that a driver waits for its watchdog at most
MIN_STALE_SECONDS = 60.0  # age of a folder before a free lock means anything: its driver may be about to take it


class Session:
    """A folder for one local Ray cluster, with the watchdog that ends what is left of it.

    Attributes:
        folder: to be given to Ray as its folder for temporary files.
    """

    def __init__(self) -> None:
        """Make the folder and start the watchdog; remove the folders of sessions that are long gone."""
        base = temporary_folder()
        remove_stale(base)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._watchdog: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", __file__, str(self.folder), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],  # a lock is free when the last process that inherited it is gone
                start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            )
        finally:
            self._lock = lock

    def close(self) -> None:
        """End what is left of the cluster and remove the folder; call it after `ray.shutdown`."""
        assert self._watchdog.stdin is not None
        with contextlib.suppress(OSError):
            self._watchdog.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._watchdog.wait(CLOSE_SECONDS)
        os.close(self._lock)


def temporary_folder() -> Path:
    """Return where Ray keeps temporary files: $RAY_TMPDIR, else /tmp. Elsewhere its socket names become too long."""
    named = os.environ.get("RAY_TMPDIR")
    return Path(named) if named and Path(named).is_dir() else Path("/tmp")


def remove_stale(base: Path) -> None:
    """Remove this user's session folders whose driver and watchdog are gone; never one that is in use."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            old = time.time() - status.st_mtime > MIN_STALE_SECONDS
            if status.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink() and old and _free(folder):
                end_processes(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _free(folder: Path) -> bool:
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes of a session, and their descendants.

    Ray's servers have an option that names the session's folder. Its agents and workers rename themselves to "ray::..."
    and outlive their raylet; they are known by their open logs. A watchdog has neither.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _belongs(process, str(folder)):
                found[process.pid] = process
                found.update({child.pid: child for child in process.children(recursive=True)})
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _alive(process)]


def _belongs(process: psutil.Process, folder: str) -> bool:
    command = process.cmdline()
    if command and command[0].startswith("ray::"):
        return any(file.path.startswith(folder) for file in process.open_files())
    return any(word.startswith("--") and folder in word for word in command)


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end_processes(folder: Path) -> None:
    """End all processes of a session: politely, then at once; again until none is left or the time is up."""
    end = time.monotonic() + END_SECONDS
    while (left := processes_of(folder)) and time.monotonic() < end:
        _signal(left, kill=False)
        _signal(_alive_after(left), kill=True)
        _alive_after(left)


def _alive_after(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes to end, a while at most, and return those that have not. A zombie has."""
    end = time.monotonic() + TERMINATE_SECONDS
    while (alive := [process for process in processes if _alive(process)]) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    return alive


def _signal(processes: Iterable[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill() if kill else process.terminate()


def _end_after(folder: Path, driver: int, pipe: IO[bytes]) -> None:
    """Wait until a driver is gone or closes the pipe, then end the session's processes and remove its folder."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(driver)
        while _alive(process) and not select.select([pipe], [], [], POLL_SECONDS)[0]:
            pass
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _end_after(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer)
