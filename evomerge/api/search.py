"""`evomerge.search`: search for the best merge, or resume the search."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge import run
from evomerge.run import Observer, Run


def search(
    source: Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    hours: float | None = None,
    candidates: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Run a search to its verdict, or resume it when `out` already holds it.

    Args:
        source: a search file, or its content; relative paths in content start at the working directory.
        out: the run folder.
        hours: stop after this long, the proof included; overrides the file.
        candidates: stop after so many; overrides the file.
        workers: worker processes, 0 = in this one; overrides the file.
        seed: of a new run; overrides the file.
        observer: hears of the progress (see `evomerge.run.Observer`).

    Returns:
        The run. `run.state` is "done", or what it was interrupted in (Ctrl-C, SIGTERM): the same call resumes.

    Raises:
        InvalidFile: every problem of the file at once, or a change that would alter what a score means.
        NothingScored: no candidate could be scored.
        EvomergeError: the workers cannot be started.
    """
    return run.search(source, out, hours=hours, candidates=candidates, workers=workers, seed=seed, observer=observer)
