"""What a worker is asked and what it answers; the contract of everything that can run workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evomerge.checkpoint import FileStamps
from evomerge.engine import GradientTable, MemoryShare
from evomerge.engine.vllm import VllmOptions
from evomerge.evaluation import Prepared
from evomerge.methods import Direction, Method
from evomerge.recipe import ModelRef
from evomerge.records import Failure, ItemScores, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Score one candidate on some items of one pool.

    Attributes:
        candidate: its id.
        pool: whose items they are.
        document: its recipe as plain data.
        items: objective -> item ids.
        gradient: parameters by which derivatives of the right answers' log-likelihood are wanted, too; empty = none.
        gold: objective -> its weight in that sum.
    """

    candidate: int
    pool: Pool
    document: Mapping[str, Any]
    items: Mapping[str, Sequence[int]] = field(repr=False)
    gradient: tuple[Direction, ...] = field(default=(), repr=False)
    gold: Mapping[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Either item scores or a failure.

    Attributes:
        items: objective -> item scores, or None.
        failure: why there are none, or None.
        seconds: that the last attempt took on its worker.
        worker: its name.
        attempts: how often it was tried, this one included; 0 = taken over from a candidate that it repeats.
        gradient: (planned tensors, directions) if it was wanted and the tasks have right answers; else None.
        no_gradient: why there is none although it was wanted, or "".
        notes: sentences on how it was scored, which the run's log says once.
        tokens: that went through the model, padding included; 0 where nothing was scored or nobody counts.
        lost_items: that were given to a scorer in attempts that failed; 0 where nobody counts.
    """

    items: Mapping[str, ItemScores] | None
    failure: Failure | None
    seconds: float
    worker: str
    attempts: int = 1
    gradient: GradientTable | None = None
    no_gradient: str = ""
    notes: tuple[str, ...] = ()
    tokens: int = 0
    lost_items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Everything a worker needs to start: where the parents are and what to score. Can be pickled.

    Attributes:
        parents: all of them, the base first.
        root: the folder at which relative paths of parents start.
        prepared: the tasks.
        batch_size: sequences in one forward pass.
        threads: CPU threads of one worker.
        device: "cpu" or "cuda".
        commits: parent -> commit of the hub that its name stands for, so that every worker opens the same.
        digests: parent -> digest, with which workers keep statistics on disk; without, they keep none.
        stamps: parent -> how its files were when its digest was computed.
        share: of a machine's memory that one worker may take.
        places: name of a parent or adapter -> its folder.
        methods: of the caller's own, which every worker registers first.
        vllm: how vLLM is to generate answers; None = transformers does.
        row_bytes: that the parents' rows on the candidates' vocabulary take in each worker.
    """

    parents: tuple[ModelRef, ...]
    root: Path | None
    prepared: Prepared
    batch_size: int
    threads: int
    device: str
    commits: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, FileStamps] = field(default_factory=dict)
    share: MemoryShare = field(default_factory=MemoryShare)
    places: Mapping[str, Path] = field(default_factory=dict)
    methods: tuple[Method, ...] = ()
    vllm: VllmOptions | None = None
    row_bytes: int = 0


class Executor(Protocol):
    """Runs jobs, one for each free worker, and never raises because of a job."""

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
