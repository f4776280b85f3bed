"""A file that a thread writes, so that the next tensor is computed while the disk works."""

import os
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from evomerge.errors import EvomergeError

STAGE = 1 << 22  # bytes handed over at a time; a write of 68 MB took ten times as long on ext4 (measured)
STAGES = 8
DIRTY = 1 << 26  # bytes after which the thread waits for the disk, which would otherwise start at the very end


class AsyncWriter:
    """A new file, appended to. Memory: STAGES * STAGE bytes, so what was written may be changed at once.

    `close` or, after a failure, `abandon` ends it.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        for _ in range(STAGES):
            self._free.put(memoryview(bytearray(STAGE)))
        self._stage, self._filled = self._free.get(), 0
        self._error: OSError | None = None
        self._thread = Thread(target=self._work, name=f"writer of {path.name}", daemon=True)
        self._thread.start()

    def write(self, content: bytes | memoryview) -> None:
        """Append bytes (a memoryview: of single bytes).

        Raises:
            EvomergeError: these or earlier ones cannot be written, as when the disk is full.
        """
        rest = memoryview(content)
        while rest:
            taken = min(len(rest), STAGE - self._filled)
            self._stage[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == STAGE:
                self._full.put((self._stage, self._filled))
                self._stage, self._filled = self._free.get(), 0
        self._check()

    def close(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            EvomergeError: it cannot be written.
        """
        self._full.put((self._stage, self._filled))
        self._full.put(None)
        self._thread.join()
        with self._file:
            self._check()
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Let go of the file, whatever of it was written."""
        self._full.put(None)
        self._thread.join()
        self._file.close()

    def _check(self) -> None:
        if self._error is not None:
            raise EvomergeError(
                f"{self._path}: cannot be written ({self._error.strerror}); make room there or name another folder"
            )

    def _work(self) -> None:
        dirty = 0
        while (piece := self._full.get()) is not None:
            stage, length = piece
            try:
                dirty = 0 if self._error else self._append(stage[:length], dirty)
            except OSError as error:
                self._error = error  # the stages still go round, so that `write` never waits for ever
            self._free.put(stage)

    def _append(self, rest: memoryview, dirty: int) -> int:
        """Write a piece and return how many bytes the disk may still have to take."""
        dirty += len(rest)
        while rest:
            rest = rest[self._file.write(rest) :]
        if dirty < DIRTY:
            return dirty
        os.fsync(self._file.fileno())
        return 0
