"""Writing a model folder: tensors streamed into shards, nothing visible under its name until everything is there."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from evomerge.checkpoint._async_writer import AsyncWriter
from evomerge.checkpoint._folder import CODES, INDEX, SINGLE
from evomerge.checkpoint._model import TensorInfo
from evomerge.errors import EvomergeError, InvalidInput

SHARD_BYTES = 5_000_000_000


class CheckpointWriter:
    """Stream tensors into a new folder; memory stays at one tensor.

    Use as a context manager: leaving it normally makes the folder appear (fsync, then one rename); leaving it with an
    exception leaves nothing behind.
    """

    def __init__(self, out: Path, tensors: Mapping[str, TensorInfo], shard_bytes: int = SHARD_BYTES):
        """Plan the shards. `tensors`: name -> dtype and shape, in the order in which `write` will get them.

        Raises:
            InvalidInput: `out` exists and is not an empty folder.
        """
        refuse_existing(out)
        self.out = out
        self._shards = _shards(tensors, shard_bytes)
        self._folder = out.parent / f".{out.name}.tmp-{os.getpid()}"
        self._pending = [(name, shard) for shard, names in enumerate(self._shards) for name in names]
        self._next = 0
        self._stream: AsyncWriter | None = None

    @property
    def folder(self) -> Path:
        """Where files other than weights are to be put while writing."""
        return self._folder

    def __enter__(self) -> "CheckpointWriter":
        self.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        return self

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Append the next tensor, which must be contiguous and as announced."""
        expected, shard = self._pending[self._next]
        info = self._shards[shard][expected]
        if (name, tensor.dtype, tuple(tensor.shape)) != (expected, info.dtype, info.shape):
            raise AssertionError(f"got {name} {tensor.dtype} {tuple(tensor.shape)}, expected {expected} {info}")
        if self._next == 0 or self._pending[self._next - 1][1] != shard:
            self._open(shard)
        assert self._stream is not None
        self._stream.write(content(tensor))
        self._next += 1

    def _open(self, shard: int) -> None:
        self._close()
        self._stream = AsyncWriter(self._folder / self._file(shard))
        self._stream.write(_header(self._shards[shard]))

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _file(self, shard: int) -> str:
        count = len(self._shards)
        return SINGLE if count == 1 else f"model-{shard + 1:05d}-of-{count:05d}.safetensors"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._close()
                if self._next != len(self._pending):
                    raise AssertionError(f"wrote {self._next} of {len(self._pending)} tensors")
                self._finish()
            elif self._stream is not None:
                self._stream.abandon()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self) -> None:
        if len(self._shards) > 1:
            names = {name: self._file(shard) for name, shard in self._pending}
            total = sum(info.size_bytes for shard in self._shards for info in shard.values())
            write_json(self._folder / INDEX, {"metadata": {"total_size": total}, "weight_map": names})
        for path in self._folder.iterdir():
            sync(path)
        sync(self._folder)
        if self.out.exists():
            self.out.rmdir()
        os.replace(self._folder, self.out)
        sync(self.out.parent)


def refuse_existing(out: Path) -> None:
    """Raise InvalidInput unless `out` is free: absent, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInput(f"{out}: exists already; name a new folder or remove this one")
    if out.exists() and not os.access(out.parent, os.W_OK):
        raise EvomergeError(f"{out.parent}: cannot be written to")


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shards(tensors: Mapping[str, TensorInfo], shard_bytes: int) -> list[dict[str, TensorInfo]]:
    """Fill shards in order; a tensor larger than a shard gets one of its own."""
    shards: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in tensors.items():
        if shards[-1] and filled + info.size_bytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = info
        filled += info.size_bytes
    return shards


def _header(tensors: Mapping[str, TensorInfo]) -> bytes:
    """Return the safetensors header: length, then JSON with each tensor's dtype, shape and offsets."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, info in tensors.items():
        end = offset + info.size_bytes
        entries[name] = {"dtype": CODES[info.dtype], "shape": list(info.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def content(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor."""
    return memoryview(tensor.detach().cpu().view(-1).view(torch.uint8).numpy())


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
