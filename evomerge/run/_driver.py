"""One run from start to verdict: folder, ledger, workers, search, proof; and the same again to resume it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from evomerge.engine import MemoryShare
from evomerge.errors import first_line
from evomerge.evaluation import Evaluator
from evomerge.methods import Method, registered
from evomerge.optimizers import OptimizerSpec
from evomerge.run._folder import LEDGER, RunLog, held, write_search
from evomerge.run._identity import (
    as_started,
    complete,
    facts_of,
    note_other_versions,
    plain_data,
    refuse_another_budget,
    refuse_another_search,
)
from evomerge.run._ledger import Ledger
from evomerge.run._pace import control_end, search_end
from evomerge.run._progress import Observer, Progress, SilentObserver
from evomerge.run._proof import Proof
from evomerge.run._run import Run
from evomerge.run._stopping import stop_signals
from evomerge.run.analysis import note_examples
from evomerge.run.config import Extensions, Setup, check_search
from evomerge.run.loop import ControlSearch, SearchLoop, as_begun
from evomerge.run.trackers import CLOSE_SECONDS, RunEnded, RunStarted, Tracker, Trackers
from evomerge.run.workers import Executor, InlineExecutor, WorkerSetup
from evomerge.space import KINDS, Space


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
    executor: Callable[[Setup], Executor] | None = None,
) -> Run:
    """Run a search to its verdict, or resume it when `out` already holds it.

    Args:
        source: a search file, or its content; relative paths in content start at the working directory (and a task's
            `scorer` may be a function, its `items` a list).
        out: the run folder.
        hours: overrides the file, as do the next four.
        candidates: to be scored, references not counted.
        workers: number of worker processes; 0 = in this one, without Ray.
        seed: of a new run.
        control: "random" = a random search with as many items is one more rival of the pick.
        methods: merge methods of the caller's, under whose names recipes and spaces find them.
        optimizer: replaces the file's. To resume, it must be given again.
        space: replaces the file's. To resume, an equal one must be given again.
        evaluators: kinds of task of the caller's, under whose names `tasks:` finds them.
        trackers: receive the run's events, besides those that the file names.
        observer: receives progress. None: in `evomerge.search` a terminal or a notebook does; `SilentObserver()` mutes.
        executor: builds the workers; by default as the search file says.

    Returns:
        The run; `run.state` is "done", or what it was interrupted in (Ctrl-C, SIGTERM): the same call resumes. The
        public `evomerge.search` has written its report.html.

    Raises:
        InvalidFile: problems of the file, or a change that would alter what a score means.
        InvalidInput: the folder cannot be used, or the search has ended and another budget is wanted.
        NothingScored: no candidate could be scored.
        EvomergeError: the workers cannot be started.
    """
    extensions = Extensions(
        methods=tuple(methods),
        optimizer=optimizer,
        space=space,
        evaluators=tuple(evaluators),
        trackers=tuple(trackers),
    )
    observer = observer or SilentObserver()
    observer.update(Progress(phase="preparing", done=0, planned=None, running=0, workers=0))
    overrides = {"hours": hours, "candidates": candidates, "workers": workers, "seed": seed, "control": control}
    setup = check_search(source, extensions=extensions, **overrides)
    folder = Path(out)
    _session(setup, folder, observer, executor)
    return Run(folder)


def _session(setup: Setup, folder: Path, observer: Observer, executor: Callable[[Setup], Executor] | None) -> None:
    """Open or create the ledger and work on the run until it is done or a stop is requested."""
    with held(folder), stop_signals() as stop:
        log = RunLog(folder, observer)
        ledger, setup = _open_ledger(setup, folder, log)
        try:
            if ledger.meta("state") != "done":
                with _logged(log, ledger):
                    _run(setup, ledger, log, stop, executor or partial(create_executor, say=log.say))
        finally:
            ledger.close()


def create_executor(setup: Setup, say: Callable[[str], None] = lambda line: None) -> Executor:
    """Return the workers that a search file asks for.

    Args:
        setup: the checked search.
        say: receives a sentence on workers that find no place or cannot start.
    """
    workers = setup.entry.workers
    shared = WorkerSetup(
        parents=setup.refs,
        root=setup.folder,
        prepared=setup.prepared,
        batch_size=workers.batch_size,
        threads=workers.threads,
        device="cuda" if workers.gpus else "cpu",
        commits=setup.parents.commits,
        digests={str(ref): setup.parents[ref].digest for ref in setup.refs},
        stamps=setup.parents.stamps,
        places=setup.parents.folders,
        share=MemoryShare(device=min(1.0, workers.gpus or 1.0), host=1 / max(1, workers.count)),
        methods=_methods_of(setup),
        vllm=setup.vllm,
        row_bytes=setup.row_bytes,
    )
    if workers.count == 0:
        return InlineExecutor(shared)
    from evomerge.run.workers.ray import RayExecutor

    return RayExecutor(
        shared, count=workers.count, gpus=workers.gpus, address=workers.address, timeout=workers.timeout, say=say
    )


def _methods_of(setup: Setup) -> tuple[Method, ...]:
    """Return the registered methods that recipes of the search may name, for the workers.

    Those are all where the space is somebody else's: what it decodes is not known.
    """
    if setup.extensions.space is not None or setup.space_data.get("kind") not in (None, *KINDS):
        return registered()
    named = set(_strings([setup.space_data, *(reference.document for reference in setup.references)]))
    return tuple(method for method in registered() if method.name in named)


def _strings(data: object) -> Iterator[str]:
    """Yield every string of plain data, keys left out."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        yield from _strings(list(data.values()))
    elif isinstance(data, Sequence):
        for value in data:
            yield from _strings(value)


def _open_ledger(setup: Setup, folder: Path, log: RunLog) -> tuple[Ledger, Setup]:
    """Create the ledger, or open it and refuse what would change the meaning of its scores.

    Returns:
        The ledger, and the search with what the run settled already.
    """
    path = folder / LEDGER
    if not path.exists():
        ledger = Ledger.create(path, facts_of(setup))
    else:
        ledger = complete(Ledger.resume(path))
        try:
            setup = as_started(setup, ledger)
            refuse_another_search(ledger, setup)
            refuse_another_budget(ledger, setup)
            setup = as_begun(setup, ledger)
            if note := note_other_versions(ledger):
                log.say(note)
        except BaseException:
            ledger.close()
            raise
        ledger.set_meta("search", plain_data(setup.data))
        ledger.set_meta("folder", str(setup.folder))
    write_search(folder, plain_data(setup.data), setup.where)
    return ledger, setup


def _run(
    setup: Setup, ledger: Ledger, observer: Observer, stop: Callable[[], bool], executor: Callable[[Setup], Executor]
) -> None:
    """Search and prove, as far as the ledger says it is not done yet."""
    running = executor(setup)
    try:
        trackers = Trackers(setup.trackers, say=observer.say)
        loop = SearchLoop(setup, ledger, running, observer=observer, stop=stop, trackers=trackers)
        loop.restore()
        with _tracked(setup, ledger, loop):
            if ledger.meta("state") == "searching":
                loop.run(partial(_end_by, search_end, setup, loop))
                if setup.entry.control is not None and not stop():
                    control = ControlSearch(loop, observer=observer, stop=stop)
                    control.run(partial(_end_by, control_end, setup, loop))
            if not stop() and Proof(loop, observer=observer, stop=stop).run():
                _note_examples(setup, ledger, observer)
    finally:
        running.close()


def _note_examples(setup: Setup, ledger: Ledger, observer: Observer) -> None:
    """Keep the texts of a few items for the report; evaluators of others may not be able to describe theirs."""
    try:
        note_examples(setup, ledger)
    except Exception as error:
        observer.say(f"the report will show no texts of items: {first_line(error)}")


def _end_by(rule: Callable[..., float | None], setup: Setup, loop: SearchLoop) -> float | None:
    return rule(setup, loop.state.pace, workers=loop.executor.workers, asked=len(loop.state.numbers))


@contextmanager
def _logged(log: RunLog, ledger: Ledger) -> Iterator[None]:
    """Note in the log how a session ended."""
    try:
        yield
    except BaseException as error:
        log.write(f"ended by {type(error).__name__}: {error}")
        raise
    log.write("done" if ledger.meta("state") == "done" else "stopped; the same command resumes")


@contextmanager
def _tracked(setup: Setup, ledger: Ledger, loop: SearchLoop) -> Iterator[None]:
    """Say to the trackers that a session begins, and how it ended."""
    loop.trackers.started(
        RunStarted(
            folder=ledger.path.parent.resolve(),
            resumed=loop.state.done + loop.state.scored > 0,
            objectives=setup.objectives,
            optimizer=setup.optimizer,
            seed=setup.entry.seed,
            search=plain_data(setup.data),
            candidates_finished=loop.state.done,
            coordinates=tuple(setup.space.coordinates),
            domain=setup.space.domain,
        )
    )
    error, wait_seconds = "", CLOSE_SECONDS
    try:
        yield
    except Exception as raised:
        error = str(raised) or type(raised).__name__
        raise
    except BaseException:  # the second Ctrl-C: nothing may take long now
        wait_seconds = 0.5
        raise
    finally:
        done = ledger.meta("state") == "done"
        loop.trackers.ended(
            RunEnded(
                state="failed" if error else "done" if done else "stopped",
                seconds=loop.seconds,
                pick=ledger.meta("pick"),
                verdict=ledger.meta("verdict"),
                error=error,
            ),
            wait_seconds=wait_seconds,
        )
