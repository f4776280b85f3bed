"""Fakes that misbehave, to see what a run survives: drivers that die, workers that die or hang, raising optimizers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from evomerge.optimizers import Optimizer, OptimizerSpec
from evomerge.records import Failure
from evomerge.run import Executor, Job, Outcome, Setup, create_executor

Fault = Literal["driver dies", "driver dies late", "worker dies", "worker hangs"]
HANG_WAITS = 5  # after which the answer of a worker that hangs comes all the same


class DriverDied(BaseException):
    """Stands for the sudden death of a driver: nothing that catches errors catches it."""


class FaultyExecutor:
    """Another executor, some of whose answers are lost on the way.

    "driver dies": at a wait, before the job is scored; "driver dies late": after that, but before its result is known.
    "worker dies": the jobs of that wait are lost. "worker hangs": their results come some waits later.
    """

    def __init__(self, inner: Executor, faults: Mapping[int, Fault]):
        """Take over.

        Args:
            inner: that runs the jobs.
            faults: number of a wait, from 0 -> what happens.
        """
        self._inner, self._faults, self._waits = inner, faults, 0
        self._held: dict[int, list[tuple[Job, Outcome]]] = {}  # number of a wait -> results that come then

    @property
    def free(self) -> int:
        """Free workers, less those that hang."""
        return max(0, self._inner.free - sum(map(len, self._held.values())))

    @property
    def workers(self) -> int:
        """As many as the other has."""
        return self._inner.workers

    def submit(self, job: Job) -> None:
        """Start a job."""
        self._inner.submit(job)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Return finished jobs, unless something happens to them.

        Raises:
            DriverDied: as planned.
        """
        number, self._waits = self._waits, self._waits + 1
        fault = self._faults.get(number)
        if fault == "driver dies":
            raise DriverDied
        found = self._inner.wait(timeout)
        if fault == "driver dies late":
            raise DriverDied
        if fault == "worker dies":
            found = [(job, _lost(outcome)) for job, outcome in found]
        elif fault == "worker hangs":
            self._held[number + HANG_WAITS], found = found, []
        return [*found, *self._held.pop(number, [])]

    def close(self) -> None:
        """Stop all workers."""
        self._inner.close()


def _lost(outcome: Outcome) -> Outcome:
    failure = Failure(kind="lost", reason="its worker vanished every time")
    return replace(outcome, items=None, gradient=None, failure=failure, attempts=3)


def faulty(faults: Mapping[int, Fault]) -> Callable[[Setup], Executor]:
    """Return an `executor` for `evomerge.search`: the workers that its file asks for, some of whose answers are lost.

    Args:
        faults: number of a wait, from 0 -> what happens.
    """
    return lambda setup: FaultyExecutor(create_executor(setup), faults)


def raising(spec: OptimizerSpec, *, name: str, at: int, call: Literal["ask", "tell"] = "ask") -> OptimizerSpec:
    """Return an optimizer that raises a RuntimeError.

    Args:
        spec: of the optimizer that it is until then.
        name: of its own.
        at: the number of the call, from 0.
        call: that raises.
    """

    def create(*arguments: Any, **options: Any) -> Optimizer:
        inner = spec.create(*arguments, **options)
        real, calls = getattr(inner, call), 0

        def counted(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > at:
                raise RuntimeError("out of ideas")
            return real(*given)

        setattr(inner, call, counted)
        inner.name = name  # type: ignore[misc]
        return inner

    return replace(spec, name=name, create=create)
