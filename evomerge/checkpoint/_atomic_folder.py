"""A folder that appears all at once: written under a hidden name, synced, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.errors import EvomergeError, InvalidInput

RECORD = "evomerge.json"  # in every model folder that evomerge writes


@contextmanager
def atomic_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside `out`; leaving normally syncs it and renames it to `out`, an error removes it.

    Args:
        out: the folder that is to appear.
        overwrite: whether a model folder of evomerge's that is there gives way, once the new one is whole.

    Raises:
        InvalidInput: `out` exists and is not an empty folder (nor one that may be replaced).
        EvomergeError: `out` cannot be written.
    """
    refuse_existing(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.iterdir(), folder):
            _sync(path)
        _put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool = False) -> None:
    """Make sure that a folder can be written: that it is absent, empty, or may be replaced.

    Args:
        out: the folder.
        overwrite: whether a model folder that evomerge wrote may be replaced. Others are never removed.

    Raises:
        InvalidInput: it exists and is not an empty folder (nor one that may be replaced).
        EvomergeError: nothing can be written beside it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if overwrite and (out / RECORD).is_file():
            return
        if overwrite:
            raise InvalidInput(f"{out}: holds no {RECORD}, so it is no model that evomerge wrote; remove it yourself")
        raise InvalidInput(f"{out}: exists already; name a new folder or remove this one")
    if out.exists() and not os.access(out.parent, os.W_OK):
        raise EvomergeError(f"{out.parent}: cannot be written to")


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename a folder to `out`; what is there goes only afterwards."""
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(folder, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
