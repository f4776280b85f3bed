"""Parts of a weight file that were never written: what an interrupted download leaves of a file of full length."""

import json
import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

from evomerge.checkpoint._names import embedding_name, is_head

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
