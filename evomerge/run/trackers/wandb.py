"""The tracker `wandb`: Weights & Biases, online or not.

trackers: [{name: wandb, project: merges, mode: offline}]     # later: wandb sync RUN/logs/wandb/offline-run-*
"""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from evomerge.errors import InvalidInput
from evomerge.run.trackers._service import Number, Service, run_name
from evomerge.run.trackers._tracker import RunEnded, RunStarted

MODES = ("online", "offline", "disabled")


class Wandb(Service):
    """Logs to Weights & Biases."""

    name = "wandb"
    package = "wandb"
    _open_here: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, *, project: str = "evomerge", run: str | None = None, entity: str | None = None, mode: str | None = None
    ):
        """Keep the options.

        Args:
            project: that runs are grouped in.
            run: name of the run; by default that of the run folder.
            entity: user or team; None = the default one of the account.
            mode: online, offline or disabled; None = as WANDB_MODE says.

        Raises:
            InvalidInput: wandb is not installed, or there is no such mode.
        """
        super().__init__()
        if mode is not None and mode not in MODES:
            raise InvalidInput(f"option mode of tracker wandb is {mode!r}; expected one of {', '.join(MODES)}")
        self._options = {"project": project, "entity": entity, "mode": mode}
        self._name = run
        self._run: Any = None

    def open(self, run: RunStarted, config: Mapping[str, Any]) -> None:
        """Begin the run, or resume the one that an earlier session of this run folder began."""
        import wandb

        folder = run.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self._id = hashlib.sha256(str(run.folder).encode()).hexdigest()[:16]
        if self._id in self._open_here:  # an earlier session in this process that never ended
            self._open_here.pop(self._id).finish()
        self._run = self._open_here[self._id] = wandb.init(
            **self._options,
            dir=folder,
            id=self._id,
            name=run_name(run, self._name),
            resume="allow",
            reinit="create_new",
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True, disable_git=True),
        )

    def log(self, metrics: Mapping[str, Number], step: int) -> None:
        """Record numbers."""
        self._run.log(dict(metrics), step=step)

    def close(self, result: RunEnded, text: str) -> None:
        """Put the verdict into the summary and end the run."""
        self._run.summary["verdict"] = text
        self._open_here.pop(self._id, None)
        self._run.finish(exit_code=int(result.state == "failed"))
