"""The Ray executor: actors that keep the parents resident; a lost one is replaced and its job tried again."""

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.evaluate import WORKER_ENVIRONMENT
from evomerge.records import Failure
from evomerge.run._jobs import Job, Outcome, WorkerSetup
from evomerge.run._scoring import CandidateScorer

LOST_RETRIES = 2  # a worker that vanishes may not be the candidate's fault
FAILED_RETRIES = 1  # an error that repeats in a fresh process with half the batch is
FAILED_STARTS = 3  # workers that die this often before their first answer never will
PATIENCE = 20.0  # times the usual seconds an item takes, before a worker counts as hanging
LEAST_SECONDS = 300.0
START_SECONDS = 900.0  # for a worker to come up; its first job's time starts after that


@dataclass(slots=True)
class _Running:
    job: Job
    slot: int
    started: float
    attempt: int
    batch_size: int
    late: bool = False


class RayExecutor:
    """One actor for each worker. Jobs survive their worker: it is killed, replaced, and the job tried again."""

    def __init__(self, setup: WorkerSetup, *, count: int, gpus: float, address: str | None, timeout: float | None):
        """Start or join a cluster and its workers.

        Raises:
            EvomergeError: the cluster cannot be reached, or has fewer processors than the workers need.
        """
        import ray

        self._ray, self._setup, self._gpus, self._timeout = ray, setup, gpus, timeout
        self._started_here = not ray.is_initialized()
        if self._started_here:
            _connect(ray, address, cpus=count * setup.threads)
        self._shared = ray.put(setup)
        self._starting: dict[int, Any] = {}  # slot -> answer of a worker that may not be up yet
        self._actors: list[Any] = [self._start(slot) for slot in range(count)]
        self._idle = list(range(count))
        self._running: dict[Any, _Running] = {}
        self._pace: list[float] = []  # seconds an item, of finished jobs
        self._deaths = 0

    @property
    def free(self) -> int:
        """Idle workers."""
        return len(self._idle)

    def submit(self, job: Job) -> None:
        """Send a job to an idle worker."""
        self._send(job, self._idle.pop(0), attempt=1, batch_size=self._setup.batch_size)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Collect finished jobs; handle workers that died, hang or failed."""
        if not self._running:
            return []
        self._kill_hanging()
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        if done:  # take what else is there without waiting
            done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        finished = (self._finish(reference, self._running.pop(reference)) for reference in done)
        return [each for each in finished if each is not None]

    def close(self) -> None:
        """Kill the workers; shut Ray down if this executor started it."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started_here:
            self._ray.shutdown()

    def _start(self, slot: int) -> Any:
        environment = {**WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(self._setup.threads), "HF_TOKEN": ""}
        actor = self._ray.remote(num_cpus=self._setup.threads, num_gpus=self._gpus)(CandidateScorer)
        options = {"runtime_env": {"env_vars": environment}}
        started = actor.options(**options).remote(self._shared, f"ray-{slot}")
        self._starting[slot] = started.ready.remote()
        return started

    def _send(self, job: Job, slot: int, *, attempt: int, batch_size: int) -> None:
        reference = self._actors[slot].score.remote(job, batch_size)
        self._running[reference] = _Running(job, slot, time.monotonic(), attempt, batch_size)

    def _finish(self, reference: Any, running: _Running) -> tuple[Job, Outcome] | None:
        """Return the outcome of a job, or None if it was sent again."""
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._lost(running, error)
        self._deaths = 0
        if outcome.failure is not None and outcome.failure.kind == "failed" and running.attempt <= FAILED_RETRIES:
            self._replace(running.slot)
            self._send(
                running.job, running.slot, attempt=running.attempt + 1, batch_size=max(1, running.batch_size // 2)
            )
            return None
        if outcome.items is not None:
            count = sum(len(ids) for ids in running.job.items.values())
            self._pace = [*self._pace[-99:], outcome.seconds / max(1, count)]
        self._idle.append(running.slot)
        return running.job, replace(outcome, attempts=running.attempt)

    def _lost(self, running: _Running, error: Exception) -> tuple[Job, Outcome] | None:
        self._deaths += 1
        if self._deaths > FAILED_STARTS + LOST_RETRIES * len(self._actors):
            raise EvomergeError(f"workers die one after another; the last words were: {_first_line(error)}")
        self._replace(running.slot)
        if running.attempt <= LOST_RETRIES and not running.late:
            self._send(running.job, running.slot, attempt=running.attempt + 1, batch_size=running.batch_size)
            return None
        self._idle.append(running.slot)
        reason = "overran its time and was stopped" if running.late else "its worker vanished every time"
        failure = Failure(kind="lost", reason=reason, detail=_first_line(error))
        seconds = time.monotonic() - running.started
        outcome = Outcome(
            items=None, failure=failure, seconds=seconds, worker=f"ray-{running.slot}", attempts=running.attempt
        )
        return running.job, outcome

    def _replace(self, slot: int) -> None:
        self._ray.kill(self._actors[slot])
        self._actors[slot] = self._start(slot)

    def _kill_hanging(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            starting = self._starting.get(running.slot)
            if starting is not None and self._ray.wait([starting], timeout=0)[0]:
                del self._starting[running.slot]
                running.started, starting = now, None
            limit = self._limit(running.job) if starting is None else START_SECONDS
            if not running.late and now - running.started > limit:
                running.late = True
                self._ray.kill(self._actors[running.slot])

    def _limit(self, job: Job) -> float:
        """Seconds that a job may take: as set, else far more than the usual time for as many items."""
        if self._timeout is not None:
            return self._timeout
        if not self._pace:
            return float("inf")
        count = sum(len(ids) for ids in job.items.values())
        return max(LEAST_SECONDS, PATIENCE * median(self._pace) * count)


def _connect(ray: Any, address: str | None, cpus: int) -> None:
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises many kinds; all mean that there is no cluster
        raise EvomergeError(
            f"Ray cannot be started or joined ({_first_line(error)}); workers.count: 0 runs without"
        ) from error
    finally:
        # ray.init makes SIGTERM an immediate exit; here it is a wish to stop in good order
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
