"""Starting or joining Ray, and saying what a cluster lacks."""

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, first_line

TOKEN_HINT = (
    "A cluster at that address, if there is one, may ask for a token: copy its ~/.ray/auth_token to this machine, or "
    "name the copy in RAY_AUTH_TOKEN_PATH, or start every part of the cluster, and this command, with "
    "RAY_AUTH_MODE=disabled (docs/cluster.md)"
)


class LocalCluster:
    """A Ray cluster of this machine alone; nothing of it outlives the driver by more than some seconds."""

    def __init__(self, ray: Any, cpus: int):
        """Start it.

        Args:
            ray: the module.
            cpus: that the cluster counts.

        Raises:
            EvomergeError: Ray cannot be started.
        """
        self._ray, self._session = ray, None
        if os.name == "posix":  # elsewhere Ray's own clean-up has to do
            from evomerge.run.workers.ray._session import Session

            self._session = Session()
        try:
            connect(ray, None, cpus=cpus, folder=None if self._session is None else self._session.folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, and whatever Ray has left running or on disk."""
        self._ray.shutdown()
        if self._session is not None:
            self._session.close()
            self._session = None


def connect(ray: Any, address: str | None, cpus: int, folder: Path | None = None) -> None:
    """Join the cluster at an address, or start one of this machine alone.

    Args:
        ray: the module.
        address: of a cluster; None = start one.
        cpus: that a new cluster counts.
        folder: of a new cluster for sockets and logs; None = Ray's own.

    Raises:
        EvomergeError: there is no cluster there.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False}
        options |= {} if folder is None else {"_temp_dir": str(folder)}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", **options)  # without an address, Ray would join whatever runs here
    except Exception as error:  # Ray raises many kinds; all mean that there is no cluster
        hint = "; workers.count: 0 runs without" if address is None else f". {TOKEN_HINT}"
        raise EvomergeError(f"Ray cannot be started or joined ({first_line(error)}){hint}") from error
    finally:
        # ray.init makes SIGTERM an immediate exit; here it requests a stop in good order
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def address_of(given: str | None) -> str | None:
    """Return the address to join: as given, else that of the environment, which Ray would follow anyway."""
    return given or os.environ.get("RAY_ADDRESS") or None


def resources_sentence(ray: Any, threads: int, gpus: float) -> str:
    """Return what a worker needs and what is free, as the end of a sentence."""
    free, there = ray.available_resources(), ray.cluster_resources()

    def counted(cpus: float, cards: float) -> str:
        return f"{cpus:g} CPU" + (f" and {cards:g} GPU" if gpus else "")

    return (
        f"each needs {counted(threads, gpus)} on one machine; the cluster has "
        f"{counted(there.get('CPU', 0.0), there.get('GPU', 0.0))}, free are "
        f"{counted(free.get('CPU', 0.0), free.get('GPU', 0.0))}"
    )


def check_gpus(ray: Any, gpus: float) -> None:
    """Refuse to wait for GPUs on a machine that will never have them.

    Raises:
        EvomergeError: it has fewer than one worker needs.
    """
    found = ray.cluster_resources().get("GPU", 0.0)
    if gpus > found:
        raise EvomergeError(
            f"workers.gpus is {gpus:g}, and Ray finds {found:g} GPU on this machine; lower it (0 = CPU only), or "
            "look at CUDA_VISIBLE_DEVICES and nvidia-smi"
        )
