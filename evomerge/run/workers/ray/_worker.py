"""The process of one Ray worker: says where it is, fetches the parents if its node lacks them, then scores."""

import socket
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from evomerge.engine import cache_folder
from evomerge.run.workers import CandidateScorer, Job, Outcome, WorkerSetup
from evomerge.run.workers.ray._parent_transfer import staged


class WorkerInfo(NamedTuple):
    """Where a process is.

    Attributes:
        node: Ray's id of its machine.
        host: the machine's name.
        version: of evomerge there.
    """

    node: str
    host: str
    version: str


def worker_info() -> WorkerInfo:
    """Return where this process is."""
    import ray

    return WorkerInfo(ray.get_runtime_context().get_node_id(), socket.gethostname(), version("evomerge"))


class RayWorker:
    """An actor. It identifies itself before it starts: the driver can tell having no place from being slow to start."""

    def identify(self) -> WorkerInfo:
        """Return where this worker was placed."""
        return worker_info()

    def start(self, setup: WorkerSetup, name: str, server: Any) -> None:
        """Open the parents, and return when the first candidate can be scored.

        Args:
            setup: where the parents are on the driver's node, and what to score.
            name: of this worker.
            server: the `ParentServer` actor of the node that has the parents; None = this is that node.

        Raises:
            EvomergeError: the parents cannot be fetched or opened here.
        """
        if server is not None:
            setup = replace(setup, places=_fetched(server))
        self._scorer = CandidateScorer(setup, name)
        self._scorer.ready()

    def score(self, job: Job, batch_size: int) -> Outcome:
        """Score a job."""
        return self._scorer.score(job, batch_size)


def _fetched(server: Any) -> dict[str, Path]:
    """Return name -> folder on this node of every parent and adapter."""
    import ray

    def fetch(name: str, file: str, start: int, size: int) -> bytes:
        piece: bytes = ray.get(server.read.remote(name, file, start, size))
        return piece

    contents = ray.get(server.contents.remote())
    return {
        name: staged(content, cache_folder() / "parents", partial(fetch, name)) for name, content in contents.items()
    }
