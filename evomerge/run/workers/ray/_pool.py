"""The workers that a Ray cluster has room for: placed, started, replaced, and looked after."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evomerge.errors import EvomergeError, SelfCheckFailed, first_line
from evomerge.evaluation import WORKER_ENVIRONMENT
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup
from evomerge.run.workers.ray._cluster import room
from evomerge.run.workers.ray._parent_transfer import Source, size_of
from evomerge.run.workers.ray._worker import Greeting, RayWorker, greeting

STARTS = 2  # if every worker that found a place has failed to start this often, none will
REST_SECONDS, LONGEST_REST = 10.0, 600.0  # between a worker's attempts to start, doubled each time
START_SECONDS = 900.0  # for a placed worker to come up
SLOWEST_COPY = 10e6  # bytes per second at which parents come to a node, before its workers count as hanging
NOTICE_SECONDS, REMINDER_SECONDS = 60.0, 900.0  # until the first word about workers without a place, and the next


@dataclass(slots=True, eq=False)
class Slot:
    """One of the workers there may be.

    state: waiting = asked for, no machine has room yet; starting; up; doubted = a neighbor has vanished; resting =
    failed to start, will try again. since: when that state, or the job it is at, began. until: when a resting one tries
    again. failures: to start, in a row. place: where it is.
    """

    name: str
    state: str = "resting"
    since: float = 0.0
    until: float = 0.0
    failures: int = 0
    actor: Any = None
    place: Greeting | None = None
    busy: bool = False


class WorkerPool:
    """Up to `count` workers on whatever machines the cluster has at the time."""

    def __init__(self, ray: Any, setup: WorkerSetup, *, count: int, gpus: float, say: Callable[[str], None]):
        """Ask for the workers; `collect` sees to it that they come up."""
        self._ray, self._setup, self._gpus, self._say = ray, setup, gpus, say
        self._shared = ray.put(setup)
        self._home = greeting()
        self._source: Any = None
        self._answers: dict[Any, tuple[Slot, Any]] = {}  # reference -> whose answer it will be, and of which process
        self._notice, self._told = time.monotonic() + NOTICE_SECONDS, 0
        self.slots = [Slot(f"ray-{number}") for number in range(count)]
        for slot in self.slots:
            self._place(slot)

    @property
    def up(self) -> int:
        """Workers that are up."""
        return sum(slot.state == "up" for slot in self.slots)

    def idle(self) -> list[Slot]:
        """Return the workers that are up and have nothing to do."""
        return [slot for slot in self.slots if slot.state == "up" and not slot.busy]

    def send(self, slot: Slot, job: Job, batch_size: int) -> None:
        """Give an idle worker a job."""
        slot.busy, slot.since = True, time.monotonic()
        self._answers[slot.actor.score.remote(job, batch_size)] = slot, slot.actor

    def collect(self, timeout: float) -> list[tuple[Slot, Outcome | Exception]]:
        """Wait for the next event, and return the answers to jobs: an outcome, or why there is none.

        Raises:
            SelfCheckFailed: of a worker. EvomergeError: no worker can start.
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
                continue  # the last words of a process that was replaced meanwhile
            if slot.busy:
                slot.busy = False
                found.append((slot, answer))
            else:
                self._advance(slot, answer)
        return found

    def replace(self, slot: Slot) -> None:
        """Put a new process in a worker's place."""
        self._ray.kill(slot.actor)
        self._place(slot)

    def mourn(self, slot: Slot) -> None:
        """Replace a worker that vanished; ask the idle ones beside it whether they live before one gets its job."""
        place = slot.place
        self.replace(slot)
        for each in self.idle():
            if each.place == place:
                self._expect(each, "doubted", each.actor.greet.remote())

    def kill(self, slot: Slot) -> None:
        """End a worker; its job will have no answer."""
        self._ray.kill(slot.actor)

    def close(self) -> None:
        """End everything."""
        for actor in [*(slot.actor for slot in self.slots), self._source]:
            if actor is not None:
                self._ray.kill(actor)

    # -- one worker ----------------------------------------------------------------------------------------------

    def _place(self, slot: Slot) -> None:
        """Ask the cluster for a worker."""
        environment = {**WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(self._setup.threads), "HF_TOKEN": ""}
        actor = self._ray.remote(num_cpus=self._setup.threads, num_gpus=self._gpus)(RayWorker)
        slot.actor, slot.place = actor.options(runtime_env={"env_vars": environment}).remote(), None
        self._expect(slot, "waiting", slot.actor.greet.remote())

    def _expect(self, slot: Slot, state: str, answer: Any) -> None:
        slot.state, slot.since = state, time.monotonic()
        self._answers[answer] = slot, slot.actor

    def _answer(self, reference: Any) -> Any:
        """Return what a worker answered, or why it did not."""
        try:
            return self._ray.get(reference)
        except SelfCheckFailed as error:
            raise SelfCheckFailed(str(_cause(error))) from error
        except (self._ray.exceptions.RayError, EvomergeError) as error:
            return error

    def _advance(self, slot: Slot, answer: Any) -> None:
        """Take a worker one step toward being up."""
        if slot.state == "doubted" and isinstance(answer, Exception):
            self.replace(slot)
        elif isinstance(answer, Exception):
            self._not_started(slot, answer)
        elif slot.state in ("starting", "doubted"):
            slot.state, slot.failures = "up", 0
        else:
            self._start(slot, answer)

    def _start(self, slot: Slot, found: Greeting) -> None:
        """Let a placed worker open the parents."""
        slot.place = found
        if found.version != self._home.version:  # its scores might be others
            words = f"evomerge is {found.version} there and {self._home.version} here; install the same"
            self._not_started(slot, EvomergeError(words))
            return
        source = None if found.node == self._home.node else self._parents_here()
        self._expect(slot, "starting", slot.actor.start.remote(self._shared, slot.name, source))

    def _parents_here(self) -> Any:
        """Return the actor that other nodes get the parents from; it runs on this one."""
        if self._source is None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(self._home.node, soft=False)
            actor = self._ray.remote(num_cpus=0, max_concurrency=8)(Source)
            self._source = actor.options(scheduling_strategy=here).remote(dict(self._setup.places))
        return self._source

    def _not_started(self, slot: Slot, error: Exception) -> None:
        """Let a worker that could not start try again, after a rest if it fails once more.

        Raises:
            EvomergeError: the others cannot start either.
        """
        slot.failures += 1
        host = slot.place.host if slot.place else "a machine of the cluster"
        reason = f"a worker on {host} cannot start: {first_line(_cause(error))}"
        placed = [each for each in self.slots if each.failures or each.state in ("starting", "up")]
        if all(each.failures >= STARTS and each.state != "up" for each in placed):
            raise EvomergeError(reason) from error
        self._say(reason)
        self._ray.kill(slot.actor)
        rests = slot.failures - STARTS
        slot.state, slot.actor = "resting", None
        slot.until = time.monotonic() + (min(LONGEST_REST, REST_SECONDS * 2**rests) if rests >= 0 else 0.0)

    # -- all of them ---------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Wake workers that have rested, stop those that do not come up, tell of those that have no place."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.state == "resting" and now >= slot.until:
                self._place(slot)
            elif slot.state == "starting" and now - slot.since > self._start_limit():
                self._ray.kill(slot.actor)
        if now >= self._notice:
            self._tell_of_waiting(now)

    def _tell_of_waiting(self, now: float) -> None:
        waiting = sum(slot.state == "waiting" for slot in self.slots)
        if waiting and (waiting != self._told or not self.up):
            needed = room(self._ray, self._setup.threads, self._gpus)
            self._say(f"{waiting} of {len(self.slots)} workers have no place yet: {needed}")
        self._notice, self._told = now + (REMINDER_SECONDS if waiting else NOTICE_SECONDS), waiting

    def _start_limit(self) -> float:
        return START_SECONDS + (size_of(self._setup.places) / SLOWEST_COPY if self._source is not None else 0.0)


def _cause(error: Exception) -> BaseException:
    """Return what a worker raised, without Ray's words around it."""
    return getattr(error, "cause", None) or error
