"""Whether weight files are whole, and still what they were.

An interrupted download leaves a file of full length with parts that were never written. A mapped file that changes
gives other weights, one that becomes shorter a bus error.
"""

import json
import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from evomerge.checkpoint.family import embedding_name, is_head
from evomerge.errors import ParentChanged

MIN_HOLE_BYTES = 1 << 16  # (or half a matrix): fewer may be an accident of where the file system's blocks begin


def unwritten_matrix(path: Path) -> str | None:
    """Return a matrix of which a part was never written although other matrices were, or None.

    Embedding and head are left out: their padding rows are zeros, which some file systems and `cp --sparse` do not
    store. A file without any written matrix is a placeholder of the right size, as benchmarks use them.

    Args:
        path: of a valid safetensors file.
    """
    holes = list(_holes(path))
    if not holes:
        return None
    written, unwritten = False, None
    for name, start, end in _matrices(path):
        missing_bytes = sum(max(0, min(end, last) - max(start, first)) for first, last in holes)
        enough_bytes = min(MIN_HOLE_BYTES, (end - start) // 2)
        written = written or end - start - missing_bytes >= enough_bytes
        unwritten = unwritten or (name if missing_bytes >= enough_bytes else None)
    return unwritten if written else None


def _holes(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each stretch of a file that has no storage; nothing where the system cannot tell."""
    if not hasattr(os, "SEEK_HOLE"):
        return
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        while (start := os.lseek(file.fileno(), start, os.SEEK_HOLE)) < size:
            try:
                end = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # no data any more
                end = size
            yield start, end
            start = end
            if end == size:
                return


def _matrices(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, start, end) of each tensor of two or more dimensions, in bytes of the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = {name: info for name, info in json.loads(file.read(length)).items() if name != "__metadata__"}
    left_out = embedding_name(header)
    for name, info in header.items():
        if len(info["shape"]) >= 2 and prod(info["shape"]) and name != left_out and not is_head(name):
            start, end = (8 + length + offset for offset in info["data_offsets"])
            yield name, start, end


class FileStamp(NamedTuple):
    """What is known about a file without reading it.

    Attributes:
        size_bytes: of its content.
        modified_ns: time of the last change.
        inode: number of the file itself; another file of the same name has another one.
    """

    size_bytes: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp | None":
        """Look at a file; None where there is none."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class FileStamps:
    """The stamps of some files, taken before they were mapped."""

    def __init__(self, paths: Iterable[Path]):
        self._stamps = {path: FileStamp.of(path) for path in paths}

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self._stamps)

    def problem(self) -> ParentChanged | None:
        """Return what became of the first file that is not what it was; None where all are."""
        for path, before in self._stamps.items():
            now = FileStamp.of(path)
            if now == before:
                continue
            if now is None:
                return ParentChanged(
                    f"{path}: was there when it was opened and is not any more; put it back and give the same command "
                    "again"
                )
            sizes = (
                "and has other content or another date"
                if before is None or now.size_bytes == before.size_bytes
                else f"from {before.size_bytes} to {now.size_bytes} bytes"
            )
            return ParentChanged(
                f"{path}: changed while it was in use, {sizes}; restore it and give the same command again, or start "
                "anew with the changed model"
            )
        return None

    def joined_with(self, other: "FileStamps") -> "FileStamps":
        """Return the stamps of these files and others."""
        both = FileStamps(())
        both._stamps = {**self._stamps, **other._stamps}
        return both

    def renew(self) -> None:
        """Take the stamps anew."""
        self._stamps = {path: FileStamp.of(path) for path in self._stamps}
