"""A Ray in miniature: nodes with room for actors, references that resolve when the test says so."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.records import ItemScores
from evomerge.run import Job, Outcome
from evomerge.run.workers.ray import WorkerInfo

VERSION = "1.0"


class RayError(Exception):
    """What Ray raises."""


class Actor:
    """One that may be waiting for a place."""

    def __init__(self, ray: "FakeRay", cpus: int):
        self.ray, self.cpus, self.node = ray, cpus, None
        self.calls: list[Call] = []
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        actor = self

        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Call:
                call = Call(actor, name, arguments)
                actor.calls.append(call)
                return call

        return Method()


class Call:
    """A reference. answer: None while it is open, else what `get` returns or raises."""

    def __init__(self, actor: Actor, name: str, arguments: Sequence[Any]):
        self.actor, self.name, self.arguments = actor, name, arguments
        self.answer: Any = None


class FakeRay:
    """Stands for the module."""

    class exceptions:
        RayError = RayError

    def __init__(self, **nodes: int):
        """nodes: name -> processors."""
        self.nodes = dict(nodes)
        self.broken: dict[str, Exception] = {}  # node -> why no worker can start there
        self.versions: dict[str, str] = {}
        self.actors: list[Actor] = []
        self.numbers = itertools.count()

    def is_initialized(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        ray = self

        class Maker:
            def options(self, **more: Any) -> "Maker":
                return self

            def remote(self, *arguments: Any) -> Actor:
                actor = Actor(ray, options["num_cpus"])
                ray.actors.append(actor)
                return actor

        return lambda kind: Maker()

    def wait(self, references: list[Call], *, num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        self._go_on()
        done = [each for each in references if each.answer is not None][:num_returns]
        return done, [each for each in references if each not in done]

    def get(self, reference: Call) -> Any:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        return reference.answer

    def kill(self, actor: Actor) -> None:
        self._end(actor, "killed")

    def available_resources(self) -> dict[str, float]:
        return {"CPU": float(sum(self._room(node) for node in self.nodes))}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(sum(self.nodes.values()))}

    # -- for tests

    def leave(self, node: str) -> None:
        """Take a node away with everything on it."""
        del self.nodes[node]
        for actor in self.actors:
            if actor.node == node:
                self._end(actor, "its node has died")

    def jobs(self) -> list[Call]:
        """Return the jobs that workers are at."""
        return [call for actor in self.actors for call in actor.calls if call.name == "score" and call.answer is None]

    def _room(self, node: str) -> int:
        return self.nodes[node] - sum(actor.cpus for actor in self.actors if actor.node == node and not actor.dead)

    def _end(self, actor: Actor, why: str) -> None:
        actor.dead = True
        for call in actor.calls:
            if call.answer is None:
                call.answer = RayError(f"the actor died: {why}")

    def _go_on(self) -> None:
        for actor in self.actors:
            if actor.node is None and not actor.dead:
                actor.node = next((node for node in self.nodes if self._room(node) >= actor.cpus), None)
            if actor.node is None or actor.dead:
                continue
            for call in actor.calls:
                if call.name == "identify":
                    version = self.versions.get(actor.node, VERSION)
                    call.answer = call.answer or WorkerInfo(actor.node, f"host-{actor.node}", version)
                elif call.name == "start" and call.answer is None:
                    call.answer = self.broken.get(actor.node, True)


def done(job: Job, worker: str = "w") -> Outcome:
    """Return a job's good outcome."""
    items = {name: ItemScores(ids=tuple(ids), values=(1.0,) * len(ids)) for name, ids in job.items.items()}
    return Outcome(items=items, failure=None, seconds=1.0, worker=worker)


class Broken(EvomergeError):
    """A reason."""
