"""`evomerge.search`: search for the best merge, or resume the search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge import results, run
from evomerge.errors import first_line
from evomerge.evaluation import Evaluator
from evomerge.methods import Method
from evomerge.optimizers import OptimizerSpec
from evomerge.run import Observer, Run
from evomerge.run.trackers import Tracker
from evomerge.space import Space


def search(
    source: Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    hours: float | None = None,
    candidates: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    control: str | None = None,
    methods: Sequence[Method] = (),
    optimizer: OptimizerSpec | None = None,
    space: Space | None = None,
    evaluators: Sequence[Evaluator] = (),
    trackers: Sequence[Tracker] = (),
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
        control: "random" = also search at random with as many items: its best candidate is one more rival of the pick.
        methods: merge methods of the caller's, under whose names the space finds them.
        optimizer: replaces the file's. To resume, it must be given again.
        space: replaces the file's. To resume, an equal one must be given again.
        evaluators: kinds of task of the caller's, under whose names `tasks:` finds them.
        trackers: hear of the run, besides those that the file names.
        observer: hears of the progress (see `evomerge.run.Observer`).

    Returns:
        The run. `run.state` is "done", or what it was interrupted in (Ctrl-C, SIGTERM): the same call resumes. Its
        folder holds report.html.

    Raises:
        InvalidFile: every problem of the file at once, or a change that would alter what a score means.
        InvalidInput: the folder cannot be used, or the search has ended and another budget is wanted.
        NothingScored: no candidate could be scored.
        EvomergeError: the workers cannot be started.
    """
    found = run.search(
        source,
        out,
        hours=hours,
        candidates=candidates,
        workers=workers,
        seed=seed,
        control=control,
        methods=methods,
        optimizer=optimizer,
        space=space,
        evaluators=evaluators,
        trackers=trackers,
        observer=observer,
    )
    _write_report(found, observer)
    return found


def _write_report(found: Run, observer: Observer | None) -> None:
    """Write the run's page into its folder; a page that cannot be written takes nothing from the result."""
    try:
        results.write_report(found)
    except Exception as error:
        if observer is not None:
            observer.say(f"report.html is not written: {first_line(error)}; `evomerge report {found.path}` tries again")
