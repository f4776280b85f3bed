"""The Ray executor: a job whose worker is lost goes to another, a bounded number of times."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from evomerge.errors import EvomergeError, first_line
from evomerge.records import Failure
from evomerge.run.workers import Job, Outcome, WorkerSetup
from evomerge.run.workers.ray._cluster import (
    LocalCluster,
    address_of,
    check_gpus,
    connect,
)
from evomerge.run.workers.ray._pool import WorkerPool, WorkerSlot

LOST_RETRIES = 2  # a worker that vanishes may not be the candidate's fault
FAILED_RETRIES = 1  # an error that repeats in another process with half the batch is
HANG_FACTOR = 20.0  # times the usual seconds an item takes, before a worker counts as hanging
MIN_HANG_SECONDS = 300.0
PACE_JOBS = 100  # finished jobs whose median is the usual pace


@dataclass(slots=True)
class _SentJob:
    """A job on its way through the workers.

    Attributes:
        job: what is scored.
        batch_size: of this attempt.
        attempt: its number, from 1.
        late: it overran its time, and its worker was stopped.
        lost_items: that were given to a scorer in earlier attempts.
    """

    job: Job
    batch_size: int
    attempt: int = 1
    late: bool = False
    lost_items: int = 0


class RayExecutor:
    """Workers come up wherever the cluster has resources for them; jobs survive them."""

    def __init__(
        self,
        setup: WorkerSetup,
        *,
        count: int,
        gpus: float,
        address: str | None,
        timeout: float | None,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Start or join a cluster and request workers from it.

        Args:
            setup: what every worker needs.
            count: the most workers.
            gpus: of each worker; fractions are allowed.
            address: of a cluster; None starts one of this machine.
            timeout: seconds for one job; None = many times what jobs usually take.
            say: hears of workers that find no place or cannot start.

        Raises:
            EvomergeError: the cluster cannot be reached, or is this machine and lacks the GPUs.
        """
        import ray

        self._ray, self._setup, self._timeout = ray, setup, timeout
        self._local: LocalCluster | None = None
        self._pool: WorkerPool | None = None
        self._joined = False
        self._tasks: dict[WorkerSlot, _SentJob] = {}
        self._again: deque[_SentJob] = deque()  # for the next workers that are free
        self._pace: list[float] = []  # seconds an item, of finished jobs
        self._deaths = 0
        try:
            if not ray.is_initialized():
                self._connect(address_of(address), count * setup.threads, gpus)
            self._pool = WorkerPool(ray, setup, count=count, gpus=gpus, say=say)
        except BaseException:
            self.close()
            raise

    def _connect(self, address: str | None, cpus: int, gpus: float) -> None:
        if address is None:
            self._local = LocalCluster(self._ray, cpus)
            check_gpus(self._ray, gpus)
        else:
            connect(self._ray, address, cpus=cpus)
            self._joined = True

    @property
    def pool(self) -> WorkerPool:
        """The workers."""
        assert self._pool is not None, "closed"
        return self._pool

    @property
    def free(self) -> int:
        """Idle workers, less those that interrupted jobs will take."""
        return max(0, len(self.pool.idle()) - len(self._again))

    @property
    def workers(self) -> int:
        """Workers that are up."""
        return self.pool.up

    def submit(self, job: Job) -> None:
        """Send a job to an idle worker."""
        self._send(_SentJob(job, self._setup.batch_size), self.pool.idle()[0])

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Collect finished jobs; look after workers that come up, die, hang or fail.

        Args:
            timeout: seconds to wait for the next event.

        Raises:
            CannotGoOn: of a worker.
            EvomergeError: no worker can start, or they die one after another.
        """
        self._stop_hanging()
        finished = []
        for slot, answer in self.pool.collect(timeout):
            task = self._tasks.pop(slot)
            if isinstance(answer, Exception):
                finished.append(self._lost(slot, task, answer))
            else:
                finished.append(self._scored(slot, task, answer))
        idle = self.pool.idle()
        while idle and self._again:
            self._send(self._again.popleft(), idle.pop(0))
        return [result for result in finished if result is not None]

    def close(self) -> None:
        """Kill the workers; leave the cluster, or end it if this executor started it."""
        if self._pool is not None:
            self._pool.close()
        if self._local is not None:
            self._local.close()
        elif self._joined:
            self._ray.shutdown()
        self._local, self._joined = None, False

    def _send(self, task: _SentJob, slot: WorkerSlot) -> None:
        self._tasks[slot] = task
        self.pool.send(slot, task.job, task.batch_size)

    def _scored(self, slot: WorkerSlot, task: _SentJob, outcome: Outcome) -> tuple[Job, Outcome] | None:
        """Return the outcome of a job, or None if it will be tried again."""
        self._deaths = 0
        if outcome.failure is not None and outcome.failure.kind == "failed" and task.attempt <= FAILED_RETRIES:
            self.pool.replace(slot)
            lost = task.lost_items + outcome.lost_items
            self._again.append(_SentJob(task.job, max(1, task.batch_size // 2), task.attempt + 1, lost_items=lost))
            return None
        if outcome.items is not None:
            self._pace = [*self._pace[1 - PACE_JOBS :], outcome.seconds / max(1, _items(task.job))]
        return task.job, replace(outcome, attempts=task.attempt, lost_items=task.lost_items + outcome.lost_items)

    def _lost(self, slot: WorkerSlot, task: _SentJob, error: Exception) -> tuple[Job, Outcome] | None:
        """Replace a worker that vanished in the middle of a job; return an outcome if that was the last attempt.

        Raises:
            EvomergeError: that happens all the time.
        """
        self._deaths += 1
        if self._deaths > LOST_RETRIES * (len(self.pool.slots) + 1) + 1:
            raise EvomergeError(f"workers die one after another; the last error: {first_line(error)}")
        seconds = time.monotonic() - slot.since
        self.pool.replace_lost(slot)
        if task.attempt <= LOST_RETRIES and not task.late:
            self._again.append(replace(task, attempt=task.attempt + 1))
            return None
        reason = "overran its time and was stopped" if task.late else "its worker vanished every time"
        failure = Failure(kind="lost", reason=reason, detail=first_line(error))
        outcome = Outcome(items=None, failure=failure, seconds=seconds, worker=slot.name, attempts=task.attempt)
        return task.job, outcome

    def _stop_hanging(self) -> None:
        now = time.monotonic()
        for slot, task in self._tasks.items():
            if not task.late and now - slot.since > self._limit(task.job):
                task.late = True
                self.pool.kill(slot)

    def _limit(self, job: Job) -> float:
        """Return the seconds that a job may take: as set, else far more than the usual time for as many items."""
        if self._timeout is not None:
            return self._timeout
        if not self._pace:
            return float("inf")
        return max(MIN_HANG_SECONDS, HANG_FACTOR * median(self._pace) * _items(job))


def _items(job: Job) -> int:
    return sum(len(ids) for ids in job.items.values())
