"""A folder that appears all at once, and a safetensors file whose tensors become known while it is written."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from evomerge.checkpoint._async_writer import AsyncWriter
from evomerge.checkpoint._folder import CODES
from evomerge.checkpoint._writer import content, refuse_existing, sync

_ENTRY_BYTES = 160  # of one tensor in a safetensors header, beside its name, with the largest numbers there can be


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `out`; leaving normally fsyncs it and renames it to `out`, an error removes it.

    Raises:
        InvalidInput: `out` exists and is not an empty folder.
    """
    refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        for path in (*folder.iterdir(), folder):
            sync(path)
        if out.exists():
            out.rmdir()
        os.replace(folder, out)
        sync(out.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SafetensorsWriter:
    """Write a safetensors file tensor by tensor, with shapes that nobody knows beforehand; memory: one tensor.

    The header comes first in the file but is known last, so room for it is kept and padded with spaces, which the
    format allows.
    """

    def __init__(self, path: Path, names: list[str]):
        """Open the file. `names`: every tensor that may come; each at most once, in any order."""
        self._path, self._allowed = path, set(names)
        self._room = 256 + sum(len(json.dumps(name)) + _ENTRY_BYTES for name in names)
        self._room += -self._room % 8  # data starts at a multiple of 8 bytes
        self._entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._offset = 0
        self._stream: AsyncWriter | None = None

    def __enter__(self) -> "SafetensorsWriter":
        self._stream = AsyncWriter(self._path)
        self._stream.write(bytes(8 + self._room))
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes of tensors written so far."""
        return self._offset

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor."""
        assert self._stream is not None
        assert name in self._allowed
        assert name not in self._entries
        self._stream.write(content(tensor.contiguous()))
        end = self._offset + tensor.numel() * tensor.element_size()
        self._entries[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [self._offset, end],
        }
        self._offset = end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        if kind is not None:
            self._stream.abandon()
            return
        self._stream.close()
        header = json.dumps(self._entries, separators=(",", ":")).encode()
        assert len(header) <= self._room
        with self._path.open("r+b") as file:
            file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))
