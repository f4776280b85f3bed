"""Processes of their own that start in an instant: a server that has loaded the heavy libraries forks them."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

LOADED = ("evomerge.run", "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama")

COMMAND = "from evomerge.cli import main; main()"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(LOADED))


class Forked:
    """A process that calls a function. Its signals, locks and death are those of any other."""

    def __init__(self, function: Callable[..., None], *arguments: object, environment: Mapping[str, str] | None = None):
        """Start it.

        Args:
            function: of a module.
            arguments: of the function; can be pickled.
            environment: variables that are added to this process's.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._output = Path(self._folder.name)
        variables = {**os.environ, **(environment or {})}
        self._process = _context.Process(target=_call, args=(self._output, variables, function, arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs; -9 = killed."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, if it still runs."""
        self._process.kill()

    def finish(self, seconds: float = 60.0) -> tuple[int, str, str]:
        """Wait for its end and return exit code, output and errors."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"process {self.pid} has not ended after {seconds:g} s"
        output, errors = ((self._output / name).read_text() for name in ("output", "errors"))
        return code, output, errors


def run_program(text: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program as `python -c` does, and return what it prints.

    Args:
        text: of the program.
        arguments: `sys.argv[1:]`.
        environment: variables that are added to this process's.
    """
    code, output, errors = Forked(program, text, arguments, environment=environment).finish()
    assert code == 0, errors
    return output


def run_command(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the command `evomerge`, and return its exit code, output and errors. Folders of $PYTHONPATH come first."""
    return Forked(program, COMMAND, arguments, environment=environment).finish(120)


def program(text: str, arguments: tuple[str, ...] = ()) -> None:
    """Be what `python -c` runs."""
    sys.argv[:] = ["-c", *arguments]
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    exec(compile(text, "<program>", "exec"), {"__name__": "__main__"})


def _call(folder: Path, variables: Mapping[str, str], function: Callable[..., None], arguments: tuple) -> None:
    """Call a function in the new process, whose output goes to files."""
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(variables)
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
