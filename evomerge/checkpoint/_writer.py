"""Writing safetensors: a whole model folder in shards, or one file whose tensors become known while it is written."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any

import torch

from evomerge.checkpoint._atomic_folder import atomic_folder, refuse_existing
from evomerge.checkpoint._folder import INDEX, SAFETENSORS_CODES, SINGLE
from evomerge.checkpoint._json import write_json
from evomerge.checkpoint._model import TensorInfo
from evomerge.errors import EvomergeError

STAGE_BYTES = 1 << 22  # handed over at a time; a single write of 68 MB took ten times as long on ext4 (measured)
STAGE_COUNT = 8
SYNC_BYTES = 1 << 26  # after which the thread waits for the disk, which would otherwise start at the very end
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


class AsyncWriter:
    """A new file that a thread appends to; `close` or, after a failure, `abandon` ends it.

    Memory: STAGE_COUNT * STAGE_BYTES. What was passed to `write` is copied, so the caller may change it at once.
    """

    def __init__(self, path: Path):
        """Create the file and start the thread.

        Args:
            path: of the file, which is overwritten if it exists.
        """
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        for _ in range(STAGE_COUNT):
            self._free.put(memoryview(bytearray(STAGE_BYTES)))
        self._stage, self._filled_bytes = self._free.get(), 0
        self._error: OSError | None = None
        self._thread = Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes.

        Args:
            content: the bytes; a memoryview must be of single bytes.

        Raises:
            EvomergeError: these or earlier ones cannot be written, as when the disk is full.
        """
        rest = memoryview(content)
        while rest:
            taken = min(len(rest), STAGE_BYTES - self._filled_bytes)
            self._stage[self._filled_bytes : self._filled_bytes + taken] = rest[:taken]
            self._filled_bytes += taken
            rest = rest[taken:]
            if self._filled_bytes == STAGE_BYTES:
                self._full.put((self._stage, self._filled_bytes))
                self._stage, self._filled_bytes = self._free.get(), 0
        self._raise_failure()

    def close(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            EvomergeError: it cannot be written.
        """
        self._full.put((self._stage, self._filled_bytes))
        self._full.put(None)
        self._thread.join()
        with self._file:
            self._raise_failure()
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Close the file, however much of it was written."""
        self._full.put(None)
        self._thread.join()
        self._file.close()

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise EvomergeError(
                f"{self._path}: cannot be written ({self._error.strerror}); free space there or name another folder"
            )

    def _work(self) -> None:
        """Write full stages until None comes; the thread's body."""
        unsynced = 0
        while (piece := self._full.get()) is not None:
            stage, length = piece
            try:
                unsynced = 0 if self._error else self._append(stage[:length], unsynced)
            except OSError as error:
                self._error = error  # stages still go back to the queue, so that `write` never waits for ever
            self._free.put(stage)

    def _append(self, rest: memoryview, unsynced: int) -> int:
        """Write a piece and return how many bytes the disk may not have yet."""
        unsynced += len(rest)
        while rest:
            rest = rest[self._file.write(rest) :]
        if unsynced < SYNC_BYTES:
            return unsynced
        os.fsync(self._file.fileno())
        return 0
