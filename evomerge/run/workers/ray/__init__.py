"""Workers as Ray actors, on one machine or a cluster.

Importing this package does not load Ray; making a `RayExecutor` does. It must not import the loop or the ledger.
"""

from evomerge.run.workers.ray._cluster import LocalCluster, connect
from evomerge.run.workers.ray._executor import RayExecutor
from evomerge.run.workers.ray._parent_transfer import ParentServer, content_of, size_of, staged
from evomerge.run.workers.ray._pool import WorkerPool
from evomerge.run.workers.ray._worker import WorkerInfo

__all__ = [
    "LocalCluster",
    "ParentServer",
    "RayExecutor",
    "WorkerInfo",
    "WorkerPool",
    "connect",
    "content_of",
    "size_of",
    "staged",
]
