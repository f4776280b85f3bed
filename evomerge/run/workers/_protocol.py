"""What a worker is asked and what it answers; the contract of everything that can run workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evomerge.engine import MemoryShare
from evomerge.evaluation import Prepared
from evomerge.recipe import ModelRef
from evomerge.records import Failure, ItemScores, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Score one candidate on some items of one pool. document: its recipe as plain data."""

    candidate: int
    pool: Pool
    document: Mapping[str, Any]
    items: Mapping[str, Sequence[int]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Either item scores or a failure. attempts: how often it was tried, this one included."""

    items: Mapping[str, ItemScores] | None
    failure: Failure | None
    seconds: float
    worker: str
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Everything a worker needs to start: where the parents are and what to score. Can be pickled.

    commits: of the hub that the parents' names stand for, so that every worker opens the same. digests: of the
    parents by name, with which workers keep statistics on disk; without, they keep none. share: of a machine's memory
    that one worker may take. places: name of a parent or adapter -> its folder.
    """

    parents: tuple[ModelRef, ...]
    root: Path | None
    prepared: Prepared
    batch_size: int
    threads: int
    device: str
    commits: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    share: MemoryShare = field(default_factory=MemoryShare)
    places: Mapping[str, Path] = field(default_factory=dict)


class Executor(Protocol):
    """Runs jobs, one for each free worker, and never raises for a job's sake."""

    @property
    def free(self) -> int:
        """How many more jobs may be submitted now."""
        ...

    @property
    def workers(self) -> int:
        """How many workers are up. While there are none, jobs wait for one to come."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job on a free worker."""
        ...

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Return finished jobs, waiting up to `timeout` seconds for the first."""
        ...

    def close(self) -> None:
        """Stop all workers at once."""
        ...
