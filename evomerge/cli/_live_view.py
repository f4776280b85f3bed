"""How a search looks while it runs: one block on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from evomerge.results import format_duration, printable
from evomerge.run import Progress

LINE_SECONDS = 10.0  # between plain lines where there is no terminal


@contextmanager
def live_view(out: Path, stream: TextIO) -> Iterator["LiveView"]:
    """Show a run's progress on a stream until the block is left.

    Args:
        out: the run folder, which gets logs/run.log.
        stream: a terminal or anything else that can be written to.
    """
    console = Console(file=stream, highlight=False)
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
    if live is None:
        yield LiveView(out, console, None)
        return
    with live:
        yield LiveView(out, console, live)


class LiveView:
    """An observer of a run (see `evomerge.run.Observer`)."""

    def __init__(self, out: Path, console: Console, live: Live | None):
        self._out, self._console, self._live = out, console, live
        self._printed_at, self._phase = 0.0, ""

    def update(self, progress: Progress) -> None:
        """Redraw the block; without a terminal, print a line every ten seconds and at each change of phase."""
        if self._live is not None:
            self._live.update(Text("\n".join(_lines(self._out, progress))))
            return
        now = time.monotonic()
        if progress.phase != self._phase or now - self._printed_at >= LINE_SECONDS:
            self._phase, self._printed_at = progress.phase, now
            self._console.print(printable("  ".join(_lines(self._out, progress)[:2])), soft_wrap=True)

    def say(self, line: str) -> None:
        """Print one event."""
        self._console.print(printable(line), soft_wrap=True)


def _lines(out: Path, progress: Progress) -> list[str]:
    """Return a run's progress as a few lines of text."""
    if progress.phase == "preparing":
        return [f"run {out}: reading parents and preparing tasks"]
    what = {
        "searching": "candidate",
        "controlling": "random control",
        "selecting": "select pool",
        "reporting": "report pool",
    }[progress.phase]
    of = f" of {progress.planned}" if progress.planned is not None else ""
    left = f", {format_duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    seconds = format_duration(progress.seconds)
    head = f"run {out}: {what} {progress.done}{of}, {seconds}{left}, {progress.running} running"
    if progress.phase != "searching":
        return [head]
    best = f"best {progress.best[1]:.3f} (#{progress.best[0]})" if progress.best else "best -"
    failed = ", ".join(f"{kind} {count}" for kind, count in progress.failures.items()) or "none"
    return [
        head,
        f"{best}  front {progress.front}  failed {failed}",
        f"last {printable(progress.last)}",
        "Ctrl-C stops after the current candidates; the same command resumes.",
    ]
