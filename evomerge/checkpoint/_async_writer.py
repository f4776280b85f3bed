"""A file that a thread writes, so that the next tensor is computed while the disk works."""

import os
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from evomerge.errors import EvomergeError

STAGE_BYTES = 1 << 22  # handed over at a time; a single write of 68 MB took ten times as long on ext4 (measured)
STAGE_COUNT = 8
SYNC_BYTES = 1 << 26  # after which the thread waits for the disk, which would otherwise start at the very end


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
