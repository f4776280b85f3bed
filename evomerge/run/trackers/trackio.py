"""The tracker `trackio`: Hugging Face's local-first experiment tracker.

    trackers: [{name: trackio, project: merges}]     # then: trackio show --project merges

Runs are kept on this machine (TRACKIO_DIR) unless `space_id` names a Space of the Hub.
"""

from collections.abc import Mapping
from typing import Any

from evomerge.run.trackers._service import Number, Service, run_name
from evomerge.run.trackers._tracker import RunEnded, RunStarted


class Trackio(Service):
    """Logs to trackio."""

    name = "trackio"
    package = "trackio"

    def __init__(self, *, project: str = "evomerge", run: str | None = None, space_id: str | None = None):
        """Keep the options.

        Args:
            project: that runs are grouped in.
            run: name of the run; by default that of the run folder.
            space_id: a Space of the Hugging Face Hub to log to; None = this machine.

        Raises:
            InvalidInput: trackio is not installed.
        """
        super().__init__()
        self._project, self._name, self._space = project, run, space_id
        self._run: Any = None

    def open(self, run: RunStarted, config: Mapping[str, Any]) -> None:
        """Begin or resume the run of that name."""
        import trackio

        self._run = trackio.init(
            self._project,
            name=run_name(run, self._name),
            space_id=self._space,
            config=dict(config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, metrics: Mapping[str, Number], step: int) -> None:
        """Record numbers."""
        self._run.log(dict(metrics), step=step)

    def close(self, result: RunEnded, text: str) -> None:
        """Write what is left and end the run."""
        self._run.finish()
