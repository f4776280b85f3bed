"""How a run looks while it goes on: one calm block on a terminal, plain lines anywhere else, or events as JSON."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from evomerge.errors import format_bytes
from evomerge.results._tables import format_duration, printable
from evomerge.run import Observer, Progress

LINE_SECONDS = 10.0  # between plain lines where there is no terminal
EVENT_SECONDS = 1.0  # between events of progress as JSON
BAR_WIDTH = 30
LABEL_WIDTH = 9
WORDS = {
    "searching": "candidate",
    "controlling": "random control",
    "selecting": "select pool",
    "reporting": "report pool",
    "done": "done, candidate",
}
STOP = "Ctrl-C stops after the current candidates; the same command resumes."


@contextmanager
def live_view(out: Path, stream: TextIO, *, as_json: bool = False, hint: str = STOP) -> Iterator[Observer]:
    """Show a run's progress until the block is left.

    Args:
        out: the run folder.
        stream: a terminal or anything else that can be written to.
        as_json: print events as lines of JSON to stdout instead.
        hint: last line of the block.
    """
    if as_json:
        yield JsonEvents(sys.stdout)
        return
    console = Console(file=stream, highlight=False)
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
    if live is None:
        yield LiveView(out, console, None, hint)
        return
    with live:
        yield LiveView(out, console, live, hint)


class LiveView:
    """An observer of a run (see `evomerge.run.Observer`) for people."""

    def __init__(self, out: Path, console: Console, live: Live | None, hint: str):
        self._out, self._console, self._live, self._hint = out, console, live, hint
        self._printed_at, self._phase = 0.0, ""

    def update(self, progress: Progress) -> None:
        """Redraw the block; without a terminal, print a line every ten seconds and at each change of phase."""
        if self._live is not None:
            lines = block_lines(self._out, progress, self._hint)
            self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
            return
        now = time.monotonic()
        if progress.phase != self._phase or now - self._printed_at >= LINE_SECONDS:
            self._phase, self._printed_at = progress.phase, now
            self._console.print(printable(plain_line(self._out, progress)), soft_wrap=True)

    def say(self, line: str) -> None:
        """Print one event."""
        self._console.print(printable(line), soft_wrap=True)


class JsonEvents:
    """An observer for programs: a line of JSON for each event, progress once a second and at each change of phase."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._printed_at, self._phase = 0.0, ""

    def update(self, progress: Progress) -> None:
        """Print where the run stands."""
        now = time.monotonic()
        if progress.phase != self._phase or now - self._printed_at >= EVENT_SECONDS:
            self._phase, self._printed_at = progress.phase, now
            self.event("progress", **asdict(progress))

    def say(self, line: str) -> None:
        """Print one event."""
        self.event("message", text=line)

    def event(self, event: str, **facts: object) -> None:
        """Print one event with its facts."""
        line = json.dumps({"version": 1, "event": event, "time": round(time.time(), 3), **facts}, ensure_ascii=False)
        self._stream.write(line + "\n")
        self._stream.flush()


def block_lines(out: Path, progress: Progress, hint: str) -> list[str]:
    """Return a run's progress as a block of lines, one fact each."""
    if progress.phase == "preparing":
        return [f"run {out}", "reading parents and preparing tasks"]
    rows = [("", _bar(progress)), ("time", _times(progress))]
    if progress.phase in ("searching", "done"):
        rows += [
            ("best", _best(progress)),
            ("front", f"{progress.front}    failed {_failed(progress)}"),
        ]
    rows.append(("workers", f"{_workers(progress)}    disk {_disk(out)}"))
    if progress.last:
        rows.append(("last", progress.last))
    lines = [f"run {out}", *(f"{name:<{LABEL_WIDTH}}{printable(text)}".rstrip() for name, text in rows)]
    return [*lines, hint] if hint and progress.phase != "done" else lines


def plain_line(out: Path, progress: Progress) -> str:
    """Return a run's progress as one line, for logs."""
    if progress.phase == "preparing":
        return f"run {out}: reading parents and preparing tasks"
    of = f" of {progress.planned}" if progress.planned is not None else ""
    head = f"run {out}: {_doing(progress)} {progress.done}{of}, {_times(progress)}, {progress.running} running"
    if progress.phase not in ("searching", "done"):
        return head
    return f"{head}  best {_best(progress)}  front {progress.front}  failed {_failed(progress)}"


def _doing(progress: Progress) -> str:
    scored, references = progress.references
    if progress.phase == "searching" and scored < references and not progress.done:
        return f"scoring references {scored} of {references}, candidate"
    words = {
        "searching": "candidate",
        "controlling": "random control",
        "selecting": "select pool",
        "reporting": "report pool",
        "done": "done, candidate",
    }
    return words[progress.phase]


def _bar(progress: Progress) -> str:
    of = f" of {progress.planned}" if progress.planned is not None else ""
    said = f"{_doing(progress)} {progress.done}{of}"
    if not progress.planned:
        return said
    filled = min(BAR_WIDTH, round(BAR_WIDTH * progress.done / progress.planned))
    return f"{'█' * filled}{'░' * (BAR_WIDTH - filled)}  {said}"


def _times(progress: Progress) -> str:
    said = format_duration(progress.seconds)
    if progress.run_seconds_left is not None:
        return f"{said}, {format_duration(progress.run_seconds_left)} left with the proof"
    return said if progress.seconds_left is None else f"{said}, {format_duration(progress.seconds_left)} left"


def _best(progress: Progress) -> str:
    if progress.best is None:
        return "-"
    between = "" if progress.best_interval is None else "95% {:.3f} to {:.3f}, ".format(*progress.best_interval)
    return f"{progress.best[1]:.3f} ({between}#{progress.best[0]})"


def _failed(progress: Progress) -> str:
    if not progress.failures:
        return "none"
    listed = ", ".join(f"{kind} {count}" for kind, count in progress.failures.items())
    return listed if len(progress.failures) == 1 else f"{sum(progress.failures.values())} ({listed})"


def _workers(progress: Progress) -> str:
    up = f" of {progress.workers}" if progress.workers else ""
    return f"{progress.running}{up} busy"


def _disk(out: Path) -> str:
    """Return the space that is free where the run folder is, or will be."""
    folder = next((folder for folder in (out, *out.resolve().parents) if folder.exists()), Path("/"))
    try:
        return f"{format_bytes(shutil.disk_usage(folder).free)} free"
    except OSError:
        return "unknown"
