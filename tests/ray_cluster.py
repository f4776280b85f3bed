"""One local Ray cluster for all tests of a process that can share it; the first of them starts it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from evomerge.run.workers.ray import LocalCluster

CPUS = 3


class SharedCluster:
    """The cluster, once somebody needs it.

    Attributes:
        folder: in which its session's folder lies; short enough for the names of sockets.
        site: from which its workers can import, as if it were installed there.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
        self.site = Path(tempfile.mkdtemp(prefix="er-site-", dir="/tmp"))
        self._local: LocalCluster | None = None

    def join(self) -> str:
        """Start it if it does not run. This process is in it then; others join at the address that is returned."""
        import ray

        if self._local is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_TMPDIR", str(self.folder))
                patch.setenv("PYTHONPATH", str(self.site), prepend=os.pathsep)
                self._local = LocalCluster(ray, cpus=CPUS)
        return str(ray.get_runtime_context().gcs_address)

    def close(self) -> None:
        """End it."""
        if self._local is not None:
            self._local.close()
            self._local = None

    def remove(self) -> None:
        """End it and remove its folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.site, ignore_errors=True)
