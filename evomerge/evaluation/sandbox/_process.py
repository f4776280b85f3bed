"""The side of a worker: start a runner, ask it, and end it."""

import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import weakref
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.evaluation.sandbox._confine import Limits

_ENVIRONMENT = {
    "HF_ALLOW_CODE_EVAL": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "USE_TORCH": "0",  # of datasets, which would import it
}


class CodeStopped(EvomergeError):
    """Code overran a limit and was killed. The text says which."""


class CodeRaised(EvomergeError):
    """Code raised something."""


class CodeProcess:
    """A process that loads a task's code once, and answers each request in a confined copy of itself."""

    def __init__(self, factory: str, payload: Any, limits: Limits):
        """Start nothing yet: the process starts with the first request.

        Args:
            factory: "module:function" that makes of the payload what answers a request: request -> plain data.
            payload: of the factory; can be pickled.
            limits: of each request.
        """
        self._setup = pickle.dumps((factory, payload, limits))
        self._runner: subprocess.Popen[bytes] | None = None

    def ask(self, request: Any) -> Any:
        """Return the answer to a request, which can be pickled.

        Raises:
            CodeStopped: it overran a limit.
            CodeRaised: it raised.
            EvomergeError: the runner itself could not start, or ended.
        """
        runner = self._started()
        assert runner.stdin is not None and runner.stdout is not None
        try:
            _write(runner.stdin, pickle.dumps(request))
            answer = json.loads(_read(runner.stdout))
        except (OSError, EOFError) as error:
            raise EvomergeError(self._ended()) from error
        if "stopped" in answer:
            raise CodeStopped(answer["stopped"])
        if "raised" in answer:
            raise CodeRaised(answer["raised"])
        return answer["value"]

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._runner is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 (read when the runner has ended)
            command = [sys.executable, "-m", "evomerge.evaluation.sandbox"]
            environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._runner = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
            )
            weakref.finalize(self, _end, self._runner)
            assert self._runner.stdin is not None and self._runner.stdout is not None
            try:
                _write(self._runner.stdin, self._setup)
                _read(self._runner.stdout)
            except (OSError, EOFError) as error:
                raise EvomergeError(self._ended()) from error
        return self._runner

    def _ended(self) -> str:
        """Forget the runner that has ended, and return a sentence."""
        assert self._runner is not None
        code = self._runner.wait()
        self._runner = None
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the process for model-written code ended (exit code {code}): {said[-1] if said else 'it said nothing'}"

    def close(self) -> None:
        """End the runner."""
        if self._runner is not None:
            _end(self._runner)
            self._runner = None


def _end(runner: "subprocess.Popen[bytes]") -> None:
    """End a runner: it stops when nothing more can come."""
    assert runner.stdin is not None and runner.stdout is not None
    try:
        runner.stdin.close()
        runner.wait(5)
    except (OSError, subprocess.TimeoutExpired):
        runner.kill()
        runner.wait()
    runner.stdout.close()


def _write(stream: Any, content: bytes) -> None:
    stream.write(struct.pack("Q", len(content)) + content)
    stream.flush()


def _read(stream: Any) -> bytes:
    (size,) = struct.unpack("Q", _exactly(stream, 8))
    return _exactly(stream, size)


def _exactly(stream: Any, size: int) -> bytes:
    found: bytes = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found
