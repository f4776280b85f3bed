"""Workers as Ray actors, on one machine or a cluster.

Importing this package does not load Ray; making a `RayExecutor` does. It must not import the loop or the ledger.
"""

from evomerge.run.workers.ray._cluster import LocalCluster, connect
from evomerge.run.workers.ray._executor import RayExecutor
from evomerge.run.workers.ray._parent_transfer import ParentServer, content_of, size_of, staged
from evomerge.run.workers.ray._pool import WorkerPool
from evomerge.run.workers.ray._worker import WorkerInfo

_POSIX_ONLY = ("Session", "processes_of", "remove_stale")


def __getattr__(name: str) -> object:
    """Load what looks after sessions when it is first used: other systems lack what its locks need."""
    if name in _POSIX_ONLY:
        from evomerge.run.workers.ray import _session

        return getattr(_session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "LocalCluster",
    "ParentServer",
    "RayExecutor",
    "Session",
    "WorkerInfo",
    "WorkerPool",
    "connect",
    "content_of",
    "processes_of",
    "remove_stale",
    "size_of",
    "staged",
]
