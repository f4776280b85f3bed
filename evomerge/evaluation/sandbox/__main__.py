"""The runner: reads requests from its standard input and answers each in a confined copy of itself (see `CodeProcess`).

What comes from a copy is never trusted to be more than text: it is read as JSON, up to a size.
"""

import importlib
import json
import os
import pickle
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from evomerge.evaluation.sandbox._confine import Limits, confine
from evomerge.evaluation.sandbox._process import _read, _write
from evomerge.evaluation.sandbox._programs import set_runner

_MAX_ANSWER_BYTES = 16 << 20
_LOOK_SECONDS = 0.1  # between two looks at the files of a copy
_MAX_PROGRAMS = 1024  # that one request has run at a time
_ENTRY_BYTES = 4096  # that a file or folder counts at least
_PASSED = b"passed"


def main() -> None:
    """Answer requests until the standard input ends."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # whatever a task's code prints is no answer
    factory, payload, limits = pickle.loads(_read(requests))
    module, _, name = factory.partition(":")
    handle = getattr(importlib.import_module(module), name)(payload)
    _write(answers, b"{}")
    while True:
        try:
            request = pickle.loads(_read(requests))
        except EOFError:
            return
        _write(answers, json.dumps(_answered(handle, request, limits)).encode())


def _answered(handle: Callable[[Any], Any], request: object, limits: Limits) -> dict[str, Any]:
    """Answer one request in a copy of this process."""
    with _Copy(limits) as copy:
        copy.start(lambda send, receive: _answer(handle, request, send, receive))
        while True:
            message = copy.message()
            if isinstance(message, str):
                return {"stopped": message}
            if "programs" not in message:
                return message
            seconds = min(float(message["seconds"]), limits.seconds)
            copy.reply([_passes(program, seconds, limits) for program in message["programs"]])


def _answer(handle: Callable[[Any], Any], request: object, send: BinaryIO, receive: BinaryIO) -> None:
    """What the copy does: answer a request, and have programs run by the runner on the way."""

    def ask(programs: Sequence[str], seconds: float) -> list[bool]:
        _send(send, {"programs": list(programs), "seconds": seconds})
        found: list[bool] = json.loads(receive.readline())
        return found

    set_runner(ask)
    try:
        answer = {"value": handle(request)}
        text = json.dumps(answer, default=_plain)
    except Exception as error:
        text = json.dumps({"raised": f"{type(error).__name__}: {error}"})
    send.write(text.encode() + b"\n")
    send.flush()


def _plain(value: object) -> Any:
    """Return a number of numpy as Python's; for `json.dumps`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain data")


def _passes(program: str, seconds: float, limits: Limits) -> bool:
    """Run a program in a copy of this process of its own, and return whether it came to its end."""

    def run(send: BinaryIO, _: BinaryIO) -> None:
        exec(compile(program, "program", "exec"), {})  # this process can do nothing but compute: see `confine`
        send.write(json.dumps(_PASSED.decode()).encode() + b"\n")
        send.flush()

    own = Limits(seconds=seconds, memory_bytes=limits.memory_bytes, file_bytes=limits.file_bytes)
    with _Copy(own) as copy:
        copy.start(run)
        return copy.message() == {"passed": True}


def _send(stream: BinaryIO, message: object) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


class _Copy:
    """A copy of this process under limits, in a temporary folder, that sends lines of JSON."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._pid = 0

    def __enter__(self) -> "_Copy":
        self._folder = Path(tempfile.mkdtemp(prefix="evomerge-code-"))
        return self

    def start(self, work: Callable[[BinaryIO, BinaryIO], None]) -> None:
        """Start the copy.

        Args:
            work: what it does, with a stream to send lines on and one to receive them from.
        """
        self._from, to_us = os.pipe()
        from_us, self._to = os.pipe()
        self._left, self._read = self._limits.wall_seconds, b""
        self._pid = os.fork()
        if self._pid == 0:
            _become(work, to_us, from_us, self._folder, self._limits)
        os.close(to_us)
        os.close(from_us)

    def message(self) -> Any:
        """Return the next message, or a text that says why there is none."""
        while b"\n" not in self._read:
            started = time.monotonic()
            ready = select.select([self._from], [], [], min(_LOOK_SECONDS, max(0.0, self._left)))[0]
            chunk = os.read(self._from, 1 << 16) if ready else None
            self._left -= time.monotonic() - started
            if chunk == b"":
                return self._ending()
            self._read += chunk or b""
            if self._left <= 0:
                return f"it took more than {self._limits.wall_seconds:g} s"
            if len(self._read) > _MAX_ANSWER_BYTES:
                return "its answer is too long"
            if _bytes_below(self._folder) > self._limits.file_bytes:
                return f"it wrote more than {self._limits.file_bytes >> 20} MiB"
        line, _, self._read = self._read.partition(b"\n")
        try:
            return _understood(json.loads(line))
        except (ValueError, RecursionError):
            return "its answer is not understood"

    def reply(self, content: object) -> None:
        """Send the copy a line."""
        with suppress(OSError):  # it has ended; the next message says so
            os.write(self._to, json.dumps(content).encode() + b"\n")

    def _ending(self) -> str:
        """Return, of a copy that has ended without an answer, why."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return f"it took more than {self._limits.seconds:g} s" if name == "SIGXCPU" else f"it was killed ({name})"
        return "it ended before its answer"

    def __exit__(self, *_: object) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._from)
        os.close(self._to)
        with suppress(RecursionError):  # folders within folders without end; the rest stays, and does no harm
            shutil.rmtree(self._folder, ignore_errors=True)


def _understood(message: object) -> dict[str, Any]:
    """Return a message if it is one. Raises ValueError."""
    if message == _PASSED.decode():
        return {"passed": True}
    if not isinstance(message, dict) or not ({"value", "raised", "programs"} & set(message)):
        raise ValueError
    programs = message.get("programs", [])
    if not isinstance(programs, list) or len(programs) > _MAX_PROGRAMS or not all(isinstance(p, str) for p in programs):
        raise ValueError
    if programs and not isinstance(message.get("seconds"), float | int):
        raise ValueError
    return message


def _become(
    work: Callable[[BinaryIO, BinaryIO], None], to_runner: int, from_runner: int, folder: Path, limits: Limits
) -> None:
    """In the copy: do the work under limits, and end."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        for low, high in _gaps(sorted({0, 1, 2, to_runner, from_runner})):
            os.closerange(low, high)
        tempfile.tempdir = str(folder)
        confine(folder, limits)
        with os.fdopen(to_runner, "wb") as send, os.fdopen(from_runner, "rb") as receive:
            work(send, receive)
    finally:
        os._exit(0)


def _gaps(kept: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ranges of file descriptors around those that are kept."""
    most = os.sysconf("SC_OPEN_MAX")
    return [(low + 1, high) for low, high in zip(kept, [*kept[1:], most], strict=True)]


def _bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder that another process may be changing."""
    total = 0
    with suppress(RecursionError):
        for parent, folders, names in os.walk(folder):
            total += _ENTRY_BYTES * (len(folders) + len(names))
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(parent, name)).st_size
    return total


if __name__ == "__main__":
    main()
