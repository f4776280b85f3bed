"""Writing safetensors: a whole model folder in shards, or one file whose tensors become known while it is written."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from evomerge.checkpoint._async_writer import AsyncWriter
from evomerge.checkpoint._atomic_folder import atomic_folder, refuse_existing
from evomerge.checkpoint._folder import INDEX, SAFETENSORS_CODES, SINGLE
from evomerge.checkpoint._json import write_json
from evomerge.checkpoint._model import TensorInfo

SHARD_BYTES = 5_000_000_000  # of tensors in one file, as Hugging Face's libraries write them

_ALIGNMENT_BYTES = 8  # of where the tensors begin in a file
_LENGTH_BYTES = 8  # of the number that a file begins with
_ENTRY_BYTES = 160  # of one tensor in a header, beside its name, with the largest numbers there can be
_METADATA_BYTES = 256


class CheckpointWriter:
    """Stream tensors into a new folder; memory stays at one tensor.

    Use as a context manager: leaving it normally makes the folder appear (synced, then renamed); leaving it with an
    exception leaves nothing behind.

    Attributes:
        out: the folder that is to appear.
        folder: where files other than weights are to be put meanwhile.
    """

    def __init__(
        self, out: Path, tensors: Mapping[str, TensorInfo], shard_bytes: int = SHARD_BYTES, overwrite: bool = False
    ):
        """Plan the shards.

        Args:
            out: the new folder.
            tensors: name -> dtype and shape, in the order in which `write` will get them.
            shard_bytes: the most that one file holds, unless a single tensor is larger.
            overwrite: see `refuse_existing`.

        Raises:
            InvalidInput: see `refuse_existing`.
            EvomergeError: nothing can be written beside it.
        """
        refuse_existing(out, overwrite)
        self.out, self._overwrite = out, overwrite
        self.folder = out  # until the context is entered
        self._shards = _shards(tensors, shard_bytes)
        self._pending = [(name, shard) for shard, names in enumerate(self._shards) for name in names]
        self._written = 0
        self._stream: AsyncWriter | None = None
        self._context = ExitStack()

    def __enter__(self) -> "CheckpointWriter":
        self.folder = self._context.enter_context(atomic_folder(self.out, self._overwrite))
        return self

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Append the next tensor.

        Args:
            name: must be the next one announced.
            tensor: contiguous, of the dtype and shape announced.

        Raises:
            EvomergeError: the disk takes no more.
        """
        expected, shard = self._pending[self._written]
        info = self._shards[shard][expected]
        if (name, tensor.dtype, tuple(tensor.shape)) != (expected, info.dtype, info.shape):
            raise AssertionError(f"got {name} {tensor.dtype} {tuple(tensor.shape)}, expected {expected} {info}")
        if self._written == 0 or self._pending[self._written - 1][1] != shard:
            self._open(shard)
        assert self._stream is not None
        self._stream.write(_content(tensor))
        self._written += 1

    def _open(self, shard: int) -> None:
        self._close()
        self._stream = AsyncWriter(self.folder / self._file(shard))
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
        if error is not None:
            if self._stream is not None:
                self._stream.abandon()
            self._context.__exit__(kind, error, trace)
            return
        with self._context:
            self._close()
            if self._written != len(self._pending):
                raise AssertionError(f"wrote {self._written} of {len(self._pending)} tensors")
            self._write_index()

    def _write_index(self) -> None:
        if len(self._shards) > 1:
            names = {name: self._file(shard) for name, shard in self._pending}
            total = sum(info.size_bytes for shard in self._shards for info in shard.values())
            write_json(self.folder / INDEX, {"metadata": {"total_size": total}, "weight_map": names})


class SafetensorsWriter:
    """Write a safetensors file tensor by tensor, with shapes that are not known beforehand, in memory for one tensor.

    The header comes first in the file but is known last, so space for it is reserved and padded with blanks, which
    the format allows. Use as a context manager.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        """Reserve the space of the header.

        Args:
            path: of the file.
            names: every tensor that may come; each at most once, in any order.
        """
        self._path, self._allowed = path, set(names)
        self._reserved = _METADATA_BYTES + sum(len(json.dumps(name)) + _ENTRY_BYTES for name in names)
        self._reserved += -self._reserved % _ALIGNMENT_BYTES
        self._entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._offset = 0
        self._stream: AsyncWriter | None = None

    def __enter__(self) -> "SafetensorsWriter":
        self._stream = AsyncWriter(self._path)
        self._stream.write(bytes(_LENGTH_BYTES + self._reserved))
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes of tensors written so far."""
        return self._offset

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Append a tensor.

        Args:
            name: one of those announced, not yet written.
            tensor: of any shape and dtype of the format.

        Raises:
            EvomergeError: the disk takes no more.
        """
        assert self._stream is not None
        assert name in self._allowed
        assert name not in self._entries
        self._stream.write(_content(tensor.contiguous()))
        info = TensorInfo(tensor.dtype, tuple(tensor.shape))
        self._entries[name] = _entry(info, self._offset)
        self._offset += info.size_bytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stream is not None
        if kind is not None:
            self._stream.abandon()
            return
        self._stream.close()
        header = json.dumps(self._entries, separators=(",", ":")).encode()
        assert len(header) <= self._reserved
        with self._path.open("r+b") as file:
            file.write(self._reserved.to_bytes(_LENGTH_BYTES, "little") + header.ljust(self._reserved))


def _shards(tensors: Mapping[str, TensorInfo], shard_bytes: int) -> list[dict[str, TensorInfo]]:
    """Fill shards in order; a tensor larger than a shard gets one of its own."""
    shards: list[dict[str, TensorInfo]] = [{}]
    filled_bytes = 0
    for name, info in tensors.items():
        if shards[-1] and filled_bytes + info.size_bytes > shard_bytes:
            shards.append({})
            filled_bytes = 0
        shards[-1][name] = info
        filled_bytes += info.size_bytes
    return shards


def _header(tensors: Mapping[str, TensorInfo]) -> bytes:
    """Return the safetensors header: length, then JSON with each tensor's dtype, shape and offsets."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, info in tensors.items():
        entries[name] = _entry(info, offset)
        offset += info.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _entry(info: TensorInfo, offset: int) -> dict[str, Any]:
    """Return a header's entry for a tensor that begins `offset` bytes behind it."""
    offsets = [offset, offset + info.size_bytes]
    return {"dtype": SAFETENSORS_CODES[info.dtype], "shape": list(info.shape), "data_offsets": offsets}


def _content(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor."""
    return memoryview(tensor.detach().cpu().view(-1).view(torch.uint8).numpy())
