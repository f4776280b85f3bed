"""One run from start to verdict: lock, ledger, workers, search, proof; and the orderly ways to stop."""

import os
import platform
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from filelock import FileLock, Timeout

from evomerge.engine import MemoryShare
from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.recipe import read_yaml
from evomerge.run._ledger import Ledger
from evomerge.run._progress import Observer, Progress, Silent
from evomerge.run._proof import Proof
from evomerge.run._run import (
    LEDGER,
    OWNER,
    Run,
    owner_of,
)
from evomerge.run.config._schema import FREE_KEYS, overridden
from evomerge.run.config._setup import Setup
from evomerge.run.config._validate import inspect_data
from evomerge.run.loop import SearchLoop
from evomerge.run.trackers import CLOSE_SECONDS, RunEnded, RunStarted, Trackers
from evomerge.run.workers import Executor, InlineExecutor, WorkerSetup

RESERVE = 1.2  # the proof is given this much more time than it is expected to take
PACKAGES = ("evomerge", "torch", "transformers", "safetensors", "lm_eval", "cma", "cmaes", "optuna", "ray", "numpy")


def search(
    source: Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    hours: float | None = None,
    candidates: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    observer: Observer | None = None,
    executor: Callable[[Setup], Executor] | None = None,
) -> Run:
    """Run a search to its verdict, or resume it when `out` already holds it.

    Args:
        source: a search file, or its content (paths in it then start at the working directory).
        out: the run folder. hours, candidates, workers, seed: override the file.
        executor: builds the workers; by default as the search file says.

    Returns:
        The run; `run.state` is "done", or something else if it was interrupted (Ctrl-C, SIGTERM).

    Raises:
        InvalidFile: problems of the file, or a change that would alter what a score means. NothingScored: no
        candidate could be scored. EvomergeError: the workers cannot be started.
    """
    observer = observer or Silent()
    overrides = {"hours": hours, "candidates": candidates, "workers": workers, "seed": seed}
    out = Path(out)
    observer.update(Progress(phase="preparing", done=0, planned=None, running=0, workers=0))
    setup = _setup(source, overrides)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{out}: cannot be a run folder ({error.strerror})") from None
    with _locked(out), _stoppable() as stop:
        ledger = _open_ledger(setup, out)
        try:
            if ledger.meta("state") != "done":
                _run(setup, ledger, observer, stop, executor or partial(_executor, say=observer.say))
        finally:
            ledger.close()
    return Run(out)


def _setup(source: Path | str | Mapping[str, Any], overrides: Mapping[str, Any]) -> Setup:
    if isinstance(source, Mapping):
        return inspect_data(overridden(dict(source), **overrides), where="search", folder=Path.cwd())
    path = Path(source)
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InvalidInput(f"{path}: expected a mapping of keys to values")
    return inspect_data(overridden(data, **overrides), where=str(path), folder=path.resolve().parent)


def _run(
    setup: Setup, ledger: Ledger, observer: Observer, stop: Callable[[], bool], executor: Callable[[Setup], Executor]
) -> None:
    running = executor(setup)
    try:
        trackers = Trackers(setup.trackers, say=observer.say)
        loop = SearchLoop(setup, ledger, running, observer=observer, stop=stop, trackers=trackers)
        loop.restore()
        with _tracked(setup, ledger, loop):
            if ledger.meta("state") == "searching":
                loop.run(_deadline(setup, loop))
            if not stop():
                Proof(loop, observer=observer, stop=stop).run()
    finally:
        running.close()


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
            search=_plain(setup.data),
            candidates_finished=loop.state.done,
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


def _deadline(setup: Setup, loop: SearchLoop) -> Callable[[], float | None]:
    """Return when the search must end so that the proof still fits into the hours; better known as time goes on."""
    hours, proof, pools = setup.entry.budget.hours, setup.entry.proof, setup.entry.pools
    reported = len(setup.references) if proof.report == "all" else 2
    selected = 2 * proof.finalists + 1 + len(setup.references)
    items = len(setup.objectives) * (selected * pools.select + (reported + 1) * pools.report)

    def deadline() -> float | None:
        if hours is None:
            return None
        pace = loop.seconds_per_item
        reserve = 0.0 if pace is None else RESERVE * pace * items / max(1, loop.executor.workers)
        return max(0.0, hours * 3600 - reserve)

    return deadline


def _executor(setup: Setup, say: Callable[[str], None] = lambda line: None) -> Executor:
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
        places=setup.parents.folders,
        share=MemoryShare(device=min(1.0, workers.gpus or 1.0), host=1 / max(1, workers.count)),
    )
    if workers.count == 0:
        return InlineExecutor(shared)
    from evomerge.run.workers.ray import RayExecutor

    return RayExecutor(
        shared, count=workers.count, gpus=workers.gpus, address=workers.address, timeout=workers.timeout, say=say
    )


# -- the run folder ---------------------------------------------------------------------------------------------------


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the run folder; a dead driver's lock is free at once, because the system drops it with the process."""
    owner = out / OWNER
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner_of(out) or "another process"
        raise InvalidInput(
            f"{out}: {who} is working on this run; stop it first, or watch it with `evomerge status`"
        ) from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _open_ledger(setup: Setup, out: Path) -> Ledger:
    """Create the ledger, or open it and refuse what would change the meaning of its scores."""
    path = out / LEDGER
    identity = _plain(setup.identity())
    if not path.exists():
        ledger = Ledger.create(path, {"identity": identity, "state": "searching", **_facts(setup)})
    else:
        ledger = Ledger.resume(path)
        changes = list(_differences(ledger.meta("identity"), identity))
        if changes:
            ledger.close()
            explained = "differs from what this run was started with; use another --out, or change it back"
            raise InvalidFile(Problem(f"{setup.where}: {key}", f"{explained} ({change})") for key, change in changes)
        _refuse_more_after_the_verdict(ledger, setup, out)
        ledger.set_meta("search", _plain(setup.data))
    text = yaml.safe_dump(_plain(setup.data), sort_keys=False, allow_unicode=True)
    (out / "search.yaml").write_text(f"# As resolved; relative paths start at {setup.where}\n{text}", encoding="utf-8")
    return ledger


def _refuse_more_after_the_verdict(ledger: Ledger, setup: Setup, out: Path) -> None:
    """A larger budget cannot reopen a finished run: its report items have been looked at."""
    if ledger.meta("state") == "searching":
        return
    old = ledger.meta("search").get("budget", {})
    new = setup.data.get("budget", {})
    if {k: v for k, v in dict(new).items() if v} != {k: v for k, v in dict(old).items() if v}:
        raise InvalidInput(
            f"{out}: has finished its search, and its unseen items are used up by the proof; start a new run with "
            "another --out (and this run's exported pick under start:) to go on"
        )


def _facts(setup: Setup) -> dict[str, Any]:
    """Return what a report must say of how the run was made."""
    return {
        "search": _plain(setup.data),
        "folder": str(setup.folder),
        "objectives": [asdict(o) for o in setup.objectives],
        "base": asdict(setup.base) if setup.base else None,
        "models": [asdict(model) for model in setup.models],
        "coordinates": list(setup.space.coordinates),
        "optimizer": setup.optimizer,
        "pools": {
            name: {pool: len(ids) for pool, ids in pools.items()} for name, pools in setup.prepared.pools.items()
        },
        "facts": _plain(setup.prepared.facts),
        "notes": list(setup.notes),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()},
        "seconds": 0.0,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    """Return data as JSON knows it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, "was X, now Y") for everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if name not in FREE_KEYS:
                yield from _differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield key, f"was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# -- stopping ---------------------------------------------------------------------------------------------------------


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop, and the second Ctrl-C into an immediate end."""
    wished = threading.Event()

    def wish(number: int, frame: FrameType | None) -> None:
        if wished.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        wished.set()

    if threading.current_thread() is not threading.main_thread():
        yield wished.is_set
        return
    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wished.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
