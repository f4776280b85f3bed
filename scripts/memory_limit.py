"""A memory cgroup for one process: a limit that its page cache counts toward too, as in a container."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
V1 = ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
V2 = ("memory.max", "memory.peak")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class MemoryCgroup:
    """A cgroup; `run_in` puts a command into it."""

    def __init__(self, folder: Path, files: tuple[str, str]):
        self._folder, self._peak = folder, folder / files[1]

    def run_in(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` inside, in a process of the same number."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._folder / "cgroup.procs"), *command]

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that was used inside, page cache included; None where the system does not say."""
        return int(self._peak.read_text()) if self._peak.exists() else None


@contextmanager
def memory_cgroup(limit: str) -> Iterator[MemoryCgroup]:
    """Make a cgroup below this process's own, limited to "8G", "500M", ..., and remove it afterwards.

    Raises:
        OSError: there is no memory cgroup that this process may add to.
    """
    size = int(float(limit[:-1]) * UNITS[limit[-1]]) if limit[-1] in UNITS else int(limit)
    for parent, files in _places():
        folder = parent / f"evomerge-bench-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / files[0]).exists():  # else version 2 without this controller
                (folder / files[0]).write_text(str(size))
                yield MemoryCgroup(folder, files)
                return
        finally:
            _remove(folder)
    raise OSError("no memory cgroup can be made here; try `systemd-run --scope -p MemoryMax=8G` around this script")


def _places() -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yield folders that may take another cgroup, with the names of their files for limit and peak."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in own:
        if "memory" in controllers.split(","):
            yield ROOT / "memory" / path.lstrip("/"), V1
    for number, _, path in own:
        if number == "0":
            yield ROOT / path.lstrip("/"), V2
    yield ROOT, V2


def _remove(folder: Path) -> None:
    """Remove an empty cgroup; the last process may still be on its way out."""
    for _ in range(50):
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
