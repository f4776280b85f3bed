"""The workers that a Ray cluster has resources for: placed, started, replaced, and looked after."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evomerge.errors import CannotGoOn, EvomergeError, first_line
from evomerge.evaluation import WORKER_ENVIRONMENT
from evomerge.run.workers import Job, Outcome, WorkerSetup
from evomerge.run.workers.ray._cluster import resources_sentence
from evomerge.run.workers.ray._parent_transfer import ParentServer, size_of
from evomerge.run.workers.ray._worker import RayWorker, WorkerInfo, worker_info

MAX_FAILED_STARTS = 2  # if every worker that found a place has failed to start this often, none will
BACKOFF_SECONDS = 10.0  # between a worker's attempts to start, doubled each time
MAX_BACKOFF_SECONDS = 600.0
START_SECONDS = 900.0  # for a placed worker to come up
MIN_COPY_BYTES_PER_SECOND = 10e6  # at which parents come to a node, before its workers count as hanging
NOTICE_SECONDS = 60.0  # until workers without a place are reported
REMINDER_SECONDS = 900.0  # until they are reported again

SlotState = Literal["waiting", "starting", "up", "suspect", "backoff"]


@dataclass(slots=True, eq=False)
class WorkerSlot:
    """One of the workers that may exist.

    Attributes:
        name: of the worker, whichever process it is at the time.
        state: waiting = requested, no machine has resources yet; starting; up; suspect = another worker of its node has
            vanished, and it must answer first; backoff = failed to start, will try again.
        since: the clock's seconds at which that state, or the job it is at, began.
        until: the clock's seconds at which one in backoff tries again.
        failures: to start, in a row.
        actor: Ray's handle of its process, or None.
        place: where that process is, once known.
        busy: whether it is at a job.
    """

    name: str
    state: SlotState = "backoff"
    since: float = 0.0
    until: float = 0.0
    failures: int = 0
    actor: Any = None
    place: WorkerInfo | None = None
    busy: bool = False


class WorkerPool:
    """Up to `count` workers on whatever machines the cluster has at the time.

    Attributes:
        slots: all of them, whatever their state.
    """

    def __init__(self, ray: Any, setup: WorkerSetup, *, count: int, gpus: float, say: Callable[[str], None]):
        """Request the workers; `collect` brings them up.

        Args:
            ray: the module, connected to a cluster.
            setup: what every worker needs.
            count: the most workers.
            gpus: of each.
            say: hears of workers that find no place or cannot start.
        """
        self._ray, self._setup, self._gpus, self._say = ray, setup, gpus, say
        self._shared = ray.put(setup)
        self._driver = worker_info()
        self._server: Any = None
        self._answers: dict[Any, tuple[WorkerSlot, Any]] = {}  # reference -> whose answer it will be, of which process
        self._next_notice, self._reported = time.monotonic() + NOTICE_SECONDS, 0
        self.slots = [WorkerSlot(f"ray-{number}") for number in range(count)]
        for slot in self.slots:
            self._place(slot)

    @property
    def up(self) -> int:
        """Workers that are up."""
        return sum(slot.state == "up" for slot in self.slots)

    def idle(self) -> list[WorkerSlot]:
        """Return the workers that are up and have nothing to do."""
        return [slot for slot in self.slots if slot.state == "up" and not slot.busy]

    def send(self, slot: WorkerSlot, job: Job, batch_size: int) -> None:
        """Give an idle worker a job."""
        slot.busy, slot.since = True, time.monotonic()
        self._answers[slot.actor.score.remote(job, batch_size)] = slot, slot.actor

    def collect(self, timeout: float) -> list[tuple[WorkerSlot, Outcome | Exception]]:
        """Wait for the next event, and return the answers to jobs: an outcome, or why there is none.

        Args:
            timeout: seconds to wait.

        Raises:
            CannotGoOn: of a worker.
            EvomergeError: no worker can start.
        """
        self._look_after()
        if not self._answers:
            time.sleep(min(timeout, 0.1))
            return []
        done, _ = self._ray.wait(list(self._answers), num_returns=1, timeout=timeout)
        if done:  # take what else is there without waiting
            done, _ = self._ray.wait(list(self._answers), num_returns=len(self._answers), timeout=0)
        found = []
        for reference in done:
            slot, actor = self._answers.pop(reference)
            answer = self._answer(reference)
            if slot.actor is not actor:
                continue  # the last error of a process that was replaced meanwhile
            if slot.busy:
                slot.busy = False
                found.append((slot, answer))
            else:
                self._advance(slot, answer)
        return found

    def replace(self, slot: WorkerSlot) -> None:
        """Put a new process in a worker's place."""
        self._ray.kill(slot.actor)
        self._place(slot)

    def replace_lost(self, slot: WorkerSlot) -> None:
        """Replace a worker that vanished; the idle ones on its node must answer before one of them gets its job."""
        place = slot.place
        self.replace(slot)
        for idle in self.idle():
            if idle.place == place:
                self._expect(idle, "suspect", idle.actor.identify.remote())

    def kill(self, slot: WorkerSlot) -> None:
        """End a worker; its job will have no answer."""
        self._ray.kill(slot.actor)

    def close(self) -> None:
        """End everything."""
        for actor in [*(slot.actor for slot in self.slots), self._server]:
            if actor is not None:
                self._ray.kill(actor)

    # -- one worker ----------------------------------------------------------------------------------------------

    def _place(self, slot: WorkerSlot) -> None:
        """Request a worker from the cluster."""
        environment = {**WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(self._setup.threads), "HF_TOKEN": ""}
        actor = self._ray.remote(num_cpus=self._setup.threads, num_gpus=self._gpus)(RayWorker)
        slot.actor, slot.place = actor.options(runtime_env={"env_vars": environment}).remote(), None
        self._expect(slot, "waiting", slot.actor.identify.remote())

    def _expect(self, slot: WorkerSlot, state: SlotState, answer: Any) -> None:
        slot.state, slot.since = state, time.monotonic()
        self._answers[answer] = slot, slot.actor

    def _answer(self, reference: Any) -> Any:
        """Return what a worker answered, or why it did not."""
        try:
            return self._ray.get(reference)
        except CannotGoOn as error:
            cause = _cause(error)
            raise (type(cause) if isinstance(cause, CannotGoOn) else CannotGoOn)(str(cause)) from error
        except (self._ray.exceptions.RayError, EvomergeError) as error:
            return error

    def _advance(self, slot: WorkerSlot, answer: Any) -> None:
        """Take a worker one step toward being up."""
        if slot.state == "suspect" and isinstance(answer, Exception):
            self.replace(slot)
        elif isinstance(answer, Exception):
            self._not_started(slot, answer)
        elif slot.state in ("starting", "suspect"):
            slot.state, slot.failures = "up", 0
        else:
            self._start(slot, answer)

    def _start(self, slot: WorkerSlot, found: WorkerInfo) -> None:
        """Let a placed worker open the parents."""
        slot.place = found
        if found.version != self._driver.version:  # its scores might be others
            words = f"evomerge is {found.version} there and {self._driver.version} here; install the same"
            self._not_started(slot, EvomergeError(words))
            return
        server = None if found.node == self._driver.node else self._parent_server()
        self._expect(slot, "starting", slot.actor.start.remote(self._shared, slot.name, server))

    def _parent_server(self) -> Any:
        """Return the actor that other nodes get the parents from; it runs on this one."""
        if self._server is None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(self._driver.node, soft=False)
            actor = self._ray.remote(num_cpus=0, max_concurrency=8)(ParentServer)
            self._server = actor.options(scheduling_strategy=here).remote(dict(self._setup.places))
        return self._server

    def _not_started(self, slot: WorkerSlot, error: Exception) -> None:
        """Let a worker that could not start try again; after a pause if it has failed more than once.

        Raises:
            EvomergeError: the others cannot start either.
        """
        slot.failures += 1
        host = slot.place.host if slot.place else "a machine of the cluster"
        reason = f"a worker on {host} cannot start: {first_line(_cause(error))}"
        placed = [other for other in self.slots if other.failures or other.state in ("starting", "up")]
        if all(other.failures >= MAX_FAILED_STARTS and other.state != "up" for other in placed):
            raise EvomergeError(reason) from error
        self._say(reason)
        self._ray.kill(slot.actor)
        pauses = slot.failures - MAX_FAILED_STARTS
        slot.state, slot.actor = "backoff", None
        pause = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**pauses) if pauses >= 0 else 0.0
        slot.until = time.monotonic() + pause

    # -- all of them ---------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Start workers whose pause is over, stop those that do not come up, report those that have no place."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.state == "backoff" and now >= slot.until:
                self._place(slot)
            elif slot.state == "starting" and now - slot.since > self._start_limit():
                self._ray.kill(slot.actor)
        if now >= self._next_notice:
            self._report_waiting(now)

    def _report_waiting(self, now: float) -> None:
        waiting = sum(slot.state == "waiting" for slot in self.slots)
        if waiting and (waiting != self._reported or not self.up):
            needed = resources_sentence(self._ray, self._setup.threads, self._gpus)
            self._say(f"{waiting} of {len(self.slots)} workers have no place yet: {needed}")
        self._next_notice, self._reported = now + (REMINDER_SECONDS if waiting else NOTICE_SECONDS), waiting

    def _start_limit(self) -> float:
        copy = size_of(self._setup.places) / MIN_COPY_BYTES_PER_SECOND if self._server is not None else 0.0
        return START_SECONDS + copy


def _cause(error: Exception) -> BaseException:
    """Return what a worker raised, without Ray's words around it."""
    return getattr(error, "cause", None) or error
