"""A folder that appears all at once: written under a hidden name, synced, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.errors import EvomergeError, InvalidInput


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `out`; leaving normally syncs it and renames it to `out`, an error removes it.

    Args:
        out: the folder that is to appear.

    Raises:
        InvalidInput: `out` exists and is not an empty folder.
        EvomergeError: `out` cannot be written.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.iterdir(), folder):
            _sync(path)
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
        _sync(out.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_existing(out: Path) -> None:
    """Make sure that a folder can be written: that it is absent, or empty.

    Raises:
        InvalidInput: it exists and is not an empty folder.
        EvomergeError: nothing can be written beside it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput(f"{out}: exists already; name a new folder or remove this one")
    if out.exists() and not os.access(out.parent, os.W_OK):
        raise EvomergeError(f"{out.parent}: cannot be written to")


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
