"""The tracker `mlflow`: MLflow, in a file or on a server.

trackers: [{name: mlflow, uri: "sqlite:///mlflow.db"}]     # then: mlflow ui --backend-store-uri sqlite:///mlflow.db
"""

import re
from collections.abc import Mapping
from typing import Any

from evomerge.run.trackers._service import Number, Service, run_name
from evomerge.run.trackers._tracker import RunEnded, RunStarted

MAX_PARAMETER = 500  # characters of a parameter's value
_STATES = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class Mlflow(Service):
    """Logs to MLflow."""

    name = "mlflow"
    package = "mlflow"

    def __init__(self, *, experiment: str = "evomerge", run: str | None = None, uri: str | None = None):
        """Keep the options.

        Args:
            experiment: that runs are grouped in.
            run: name of the run; by default that of the run folder.
            uri: of the tracking store; None = as MLFLOW_TRACKING_URI says.

        Raises:
            InvalidInput: mlflow is not installed.
        """
        super().__init__()
        self._experiment, self._name, self._uri = experiment, run, uri
        self._client: Any = None
        self._run = ""

    def open(self, run: RunStarted, config: Mapping[str, Any]) -> None:
        """Begin the run, or go on with the one that an earlier session of this run folder began."""
        from mlflow import MlflowClient

        self._client = client = MlflowClient(tracking_uri=self._uri)
        known = client.get_experiment_by_name(self._experiment)
        experiment = client.create_experiment(self._experiment) if known is None else known.experiment_id
        folder = str(run.folder)
        found = client.search_runs([experiment], f"tags.`evomerge.folder` = '{folder}'") if run.resumed else []
        if found:
            self._run = found[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            return
        tags = {"evomerge.folder": folder}
        self._run = client.create_run(experiment, run_name=run_name(run, self._name), tags=tags).info.run_id
        for name, value in config.items():
            client.log_param(self._run, _name(name), str(value)[:MAX_PARAMETER])

    def log(self, metrics: Mapping[str, Number], step: int) -> None:
        """Record numbers."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, _name(name), float(value), step=step)

    def close(self, result: RunEnded, text: str) -> None:
        """Tag the run with the verdict and end it."""
        if text:
            self._client.set_tag(self._run, "verdict", text)
        self._client.set_terminated(self._run, _STATES[result.state])


def _name(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)
