"""Statistics on disk, by the content of the tensors they are of: shared by the workers of a machine and by later runs.

One safetensors file for each set of tensors, written beside its place and renamed. Files are read strictly: one that
is damaged, or of another version, counts as absent and is written anew. A folder that cannot be written is no error.
"""

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evomerge.checkpoint import Parents
from evomerge.engine._plan_records import TensorPlan
from evomerge.methods import StatisticsLocked

VERSION = 1  # of what the numbers mean and how they are named; another one starts anew
CAP_BYTES = 4 << 30  # above this the files that were not used for longest are deleted
LOCK_WAIT_SECONDS = 600.0  # for another process's numbers, before they are computed here as well
LOCK_FILES = 256  # for all sets of tensors; two sets that share one only wait for each other
SECONDS_PER_DAY = 86400.0


def cache_folder() -> Path:
    """Return where this machine's user keeps what can be computed again.

    Returns:
        `$EVOMERGE_CACHE` if it is set; else the system's place: `~/.cache/evomerge` (or under `$XDG_CACHE_HOME`),
        `~/Library/Caches/evomerge` on macOS, `%LOCALAPPDATA%\\evomerge\\Cache` on Windows.
    """
    if os.environ.get("EVOMERGE_CACHE"):
        return Path(os.environ["EVOMERGE_CACHE"]).expanduser()
    return user_cache_path("evomerge", appauthor=False)


class StatisticsCache:
    """A folder of statistics.

    Attributes:
        folder: where the files are.
        waits: whether to wait for work that another process has begun; else `StatisticsLocked` is raised.
        writable: whether anything can be kept there.
    """

    def __init__(self, folder: Path, cap_bytes: int = CAP_BYTES):
        """Open the folder, and make it if it is missing.

        Args:
            folder: where the files are.
            cap_bytes: size of all files above which those that were not used for longest are deleted now.
        """
        self.folder, self.waits, self.writable = folder, False, True
        self._locks = folder / "locks"
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            _evict(folder, cap_bytes)
        except OSError as error:
            self.give_up(error)

    def entry(self, parents: Parents, plan: TensorPlan, device: torch.device) -> "CacheEntry":
        """Return the entry of a plan's tensors.

        Args:
            parents: the opened models, whose content identifies the tensors.
            plan: says which tensors, and how their rows are aligned.
            device: where the statistics are computed.
        """
        groups = ([plan.base] if plan.base else [], plan.models, plan.rows.origins if plan.rows else [])
        origins = [[[parents[origin.model].digest, origin.tensor] for origin in group] for group in groups]
        aligned = plan.rows and plan.rows.alignment.digest([origin.model for group in groups for origin in group])
        # Sums whose order the CPU's instructions decide may differ in their last bits between kinds of CPUs.
        machine = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type
        identity = json.dumps([VERSION, machine, torch.__version__, origins, aligned])
        return CacheEntry(self, hashlib.sha256(identity.encode()).hexdigest())

    def path(self, key: str) -> Path:
        """Return the file of a set of tensors."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def lock(self, key: str) -> FileLock:
        """Return the lock that is held while the numbers of a set of tensors are computed."""
        return FileLock(self._locks / f"{int(key[:8], 16) % LOCK_FILES:02x}")

    def give_up(self, error: OSError) -> None:
        """Warn, once, that nothing can be kept here."""
        if self.writable:
            logging.getLogger("evomerge").warning(
                "%s: statistics cannot be kept there (%s); each worker computes its own. EVOMERGE_CACHE names another "
                "folder",
                self.folder,
                error.strerror or error,
            )
        self.writable = False


class CacheEntry:
    """The cached statistics of one set of tensors: a `methods.StatisticsStore`."""

    def __init__(self, cache: StatisticsCache, key: str):
        self._cache, self._path = cache, cache.path(key)
        self._lock = cache.lock(key)
        self._read: tuple[int, int] | None = None  # inode and time of the file that was read last

    def load(self) -> dict[str, torch.Tensor]:
        """Return the file's tensors, by the names that `Statistics` gives them; nothing if they were read before."""
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns) == self._read:
                return {}
            self._read = status.st_ino, status.st_mtime_ns
        except OSError:
            return {}
        found = read_statistics(self._path)
        if found and time.time() - status.st_mtime > SECONDS_PER_DAY:
            with suppress(OSError):
                os.utime(self._path)  # in use: others are deleted first
        return found

    def begin(self, known: dict[str, torch.Tensor]) -> None:
        """Claim the work and add what others have written meanwhile.

        Args:
            known: what is known already; changed in place.

        Raises:
            StatisticsLocked: another process is at work, and the cache does not wait.
        """
        if self._cache.writable and not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=LOCK_WAIT_SECONDS if self._cache.waits else 0)
            except Timeout:
                if not self._cache.waits:
                    raise StatisticsLocked from None
            except (OSError, NotImplementedError):
                pass  # no locks here: at worst, two processes compute the same
        known.update(self.load())

    def end(self, known: dict[str, torch.Tensor], changed: bool) -> None:
        """Write what is known and give up the claim.

        Args:
            known: all that is known of the tensors.
            changed: whether some of it is new.
        """
        try:
            if changed and self._cache.writable:
                write_statistics(self._path, known)
        except OSError as error:
            self._cache.give_up(error)
        finally:
            if self._lock.is_locked:
                self._lock.release(force=True)


def read_statistics(path: Path) -> dict[str, torch.Tensor]:
    """Return a file's tensors; nothing if it is damaged."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = file.metadata() or {}
            found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return {}
    right = all(tensor.dtype == torch.float64 for tensor in found.values())
    return found if right and facts.get("checksum") == _checksum(found) else {}


def write_statistics(path: Path, known: dict[str, torch.Tensor]) -> None:
    """Write a file beside its place and rename it.

    Raises:
        OSError: the folder is full, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in known.items()}
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    try:
        save_file(whole, temporary, {"checksum": _checksum(whole)})
        os.replace(temporary, path)
    except SafetensorError as error:  # how it reports a full disk
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        total.update(f"{name} {[*tensors[name].shape]}\n".encode())
        total.update(tensors[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def _evict(folder: Path, cap_bytes: int) -> None:
    """Delete the files that were used longest ago while all of them together exceed the cap."""
    files = []
    for path in folder.glob("*/*.*"):
        with suppress(FileNotFoundError):  # another process deletes files, too
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= cap_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
