"""Statistics on disk, by the content of the tensors they are of: shared by the workers of a machine and by later runs.

One safetensors file for each set of tensors, written beside its place and renamed. Files are read strictly: one that
is damaged, or of another version, counts as absent and is written anew. A folder that cannot be written is no error.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evomerge.checkpoint import Parents
from evomerge.engine.plan._records import Origin, Rows
from evomerge.methods import StatisticsLocked

VERSION = 1  # of what the numbers mean and how they are named; another one starts anew
CAP_BYTES = 4 << 30  # above this the files that were not used for longest are deleted
PATIENCE_SECONDS = 600.0  # for another process's numbers, before they are computed here as well
LOCKS = 256  # files that stand for all sets of tensors; two sets that share one only wait for each other
DAY = 86400.0


class StatisticsCache:
    """A folder of statistics.

    patient: whether work that another process has begun is waited for; else `StatisticsLocked` is raised.
    """

    def __init__(self, folder: Path, cap_bytes: int = CAP_BYTES):
        self.folder, self.patient, self.writable = folder, False, True
        self._locks = folder / "locks"
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            _evict(folder, cap_bytes)
        except OSError as error:
            self.give_up(error)

    def shelf(
        self, parents: Parents, models: Sequence[Origin], base: Origin | None, rows: Rows | None, device: torch.device
    ) -> "CacheEntry":
        """Return the place of the statistics of these tensors, aligned by `rows`, as a device works them out."""
        groups = ([base] if base else [], models, rows.origins if rows else [])
        origins = [[[parents[each.model].digest, each.tensor] for each in group] for group in groups]
        aligned = rows and rows.alignment.digest([each.model for group in groups for each in group])
        # Where a sum's order is the processor's own affair, its bits may be, too.
        machine = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type
        identity = json.dumps([VERSION, machine, torch.__version__, origins, aligned])
        return CacheEntry(self, hashlib.sha256(identity.encode()).hexdigest())

    def path(self, key: str) -> Path:
        """Return the file of a set of tensors."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def lock(self, key: str) -> FileLock:
        """Return the lock under which the numbers of a set of tensors are worked out."""
        return FileLock(self._locks / f"{int(key[:8], 16) % LOCKS:02x}")

    def give_up(self, error: OSError) -> None:
        """Say, once, that nothing can be kept here."""
        if self.writable:
            logging.getLogger("evomerge").warning(
                "%s: statistics cannot be kept there (%s); each worker computes its own. EVOMERGE_CACHE names another "
                "folder",
                self.folder,
                error.strerror or error,
            )
        self.writable = False


class CacheEntry:
    """The lasting statistics of one set of tensors: a `methods.StatisticsKeeper`."""

    def __init__(self, store: StatisticsCache, key: str):
        self._store, self._path = store, store.path(key)
        self._lock = store.lock(key)
        self._read: tuple[int, int] | None = None  # which file was read last

    def load(self) -> dict[str, torch.Tensor]:
        """Return what the file holds, unless that was read before."""
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns) == self._read:
                return {}
            self._read = status.st_ino, status.st_mtime_ns
        except OSError:
            return {}
        found = _read(self._path)
        if found and time.time() - status.st_mtime > DAY:
            with suppress(OSError):
                os.utime(self._path)  # in use: others are deleted first
        return found

    def begin(self, known: dict[str, torch.Tensor]) -> None:
        """Claim the work and add what others have written meanwhile.

        Raises:
            StatisticsLocked: another process is at it, and the store is not patient.
        """
        if self._store.writable and not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=PATIENCE_SECONDS if self._store.patient else 0)
            except Timeout:
                if not self._store.patient:
                    raise StatisticsLocked from None
            except (OSError, NotImplementedError):
                pass  # no locks here: at worst, two processes compute the same
        known.update(self.load())

    def end(self, known: dict[str, torch.Tensor], changed: bool) -> None:
        """Write what is known if some of it is new; let others in."""
        try:
            if changed and self._store.writable:
                _write(self._path, known)
        except OSError as error:
            self._store.give_up(error)
        finally:
            self._lock.release(force=True)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return a file's tensors; nothing if it is not whole."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = file.metadata() or {}
            found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return {}
    right = all(tensor.dtype == torch.float64 for tensor in found.values())
    return found if right and facts.get("checksum") == _checksum(found) else {}


def _write(path: Path, known: dict[str, torch.Tensor]) -> None:
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
        with suppress(FileNotFoundError):  # somebody else is at it
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= cap_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
