"""The run folder: who holds it, and the files in it beside the ledger."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from filelock import FileLock, Timeout

from evomerge.errors import InvalidInput
from evomerge.run._progress import Observer, Progress

LEDGER = "ledger.sqlite"
OWNER = ".owner"
SEARCH = "search.yaml"
LOG = "logs/run.log"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a run folder if need be, and hold it; a killed driver's lock is free at once, as the system drops it.

    Raises:
        InvalidInput: it cannot be created or written to, or another driver holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        who = owner_of(folder) or "another process"
        raise InvalidInput(
            f"{folder}: {who} is working on this run; stop it first, or follow it with `evomerge status`"
        ) from None
    except OSError as error:
        raise InvalidInput(
            f"{folder}: cannot be a run folder ({error.strerror}); choose an --out that can be written to"
        ) from None
    owner = folder / OWNER
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def owner_of(folder: Path) -> str | None:
    """Return "process N on HOST" of the driver that works on a run, or None; a killed one's note does not count."""
    try:
        note = (folder / OWNER).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    number, host = note.removeprefix("process ").partition(" on ")[::2]
    if host == socket.gethostname() and number.isdigit() and not psutil.pid_exists(int(number)):
        return None
    return note


def write_search(folder: Path, data: Mapping[str, Any], where: str) -> None:
    """Write the search file as it was resolved, overrides included."""
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    (folder / SEARCH).write_text(f"# As resolved; relative paths start at {where}\n{text}", encoding="utf-8")


class RunLog:
    """An observer that keeps every event as a line in logs/run.log, and hands everything on to another observer."""

    def __init__(self, folder: Path, observer: Observer):
        """Append to a run's log.

        Args:
            folder: the run folder.
            observer: receives the same, after the log.
        """
        self._path, self._observer = folder / LOG, observer
        self._phase = ""

    def update(self, progress: Progress) -> None:
        """Note the beginning of a phase; hand on."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            planned = "" if progress.planned is None else f", {progress.planned} planned"
            self.write(f"{progress.phase}: {progress.done} done{planned}")
        self._observer.update(progress)

    def say(self, line: str) -> None:
        """Note an event; hand on."""
        self.write(line)
        self._observer.say(line)

    def write(self, line: str) -> None:
        """Append a line with the time of day; characters that a terminal would act on become "?"."""
        text = "".join(character if character.isprintable() else "?" for character in line)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError:
            pass  # the log is a convenience: a disk that is full shows at the next result, in the ledger's own words
