"""The process of one Ray worker: says where it is, fetches the parents if its node lacks them, then scores."""

import socket
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.engine import cache_folder
from evomerge.run.workers._candidate_scorer import CandidateScorer
from evomerge.run.workers._protocol import Job, Outcome, WorkerSetup
from evomerge.run.workers.ray._parent_transfer import staged


class Greeting(NamedTuple):
    """Where a worker is. node: Ray's id of its machine. host: what people call it. version: of evomerge there."""

    node: str
    host: str
    version: str


def greeting() -> Greeting:
    """Return where this process is."""
    import ray

    return Greeting(ray.get_runtime_context().get_node_id(), socket.gethostname(), version("evomerge"))


class RayWorker:
    """An actor. It greets before it starts, so that the driver can tell having no place from being slow to start."""

    def greet(self) -> Greeting:
        """Say where this worker was placed."""
        return greeting()

    def start(self, setup: WorkerSetup, name: str, source: Any) -> None:
        """Open the parents, and return when the first candidate can be scored.

        Args:
            source: the `Source` actor of the node that has the parents; None = this is that node.

        Raises:
            EvomergeError: the parents cannot be had or opened here.
        """
        if source is not None:
            setup = replace(setup, places=_fetched(source))
        self._scorer = CandidateScorer(setup, name)
        self._scorer.ready()

    def score(self, job: Job, batch_size: int) -> Outcome:
        """Score a job."""
        return self._scorer.score(job, batch_size)


def _fetched(source: Any) -> dict[str, Path]:
    """Return name -> folder on this node of every parent and adapter."""
    import ray

    def fetch(name: str, file: str, start: int, size: int) -> bytes:
        piece: bytes = ray.get(source.read.remote(name, file, start, size))
        return piece

    contents = ray.get(source.contents.remote())
    return {
        name: staged(content, cache_folder() / "parents", partial(fetch, name)) for name, content in contents.items()
    }
