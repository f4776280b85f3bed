"""The tracker `tensorboard`: event files in the run folder.

trackers: [tensorboard]     # then: tensorboard --logdir RUN/logs/tensorboard
"""

from collections.abc import Mapping
from typing import Any

import yaml

from evomerge.run.trackers._service import Number, Service
from evomerge.run.trackers._tracker import RunEnded, RunStarted


class Tensorboard(Service):
    """Writes TensorBoard's event files."""

    name = "tensorboard"
    package = "tensorboard"

    def __init__(self, *, folder: str = "logs/tensorboard"):
        """Keep the options.

        Args:
            folder: of the event files; a relative one is below the run folder.

        Raises:
            InvalidInput: tensorboard is not installed.
        """
        super().__init__()
        self._folder = folder
        self._writer: Any = None

    def open(self, run: RunStarted, config: Mapping[str, Any]) -> None:
        """Begin a file; several sessions of a run have one each in the same folder."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / self._folder))
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._writer.add_text("search", f"```\n{text}\n```", run.candidates_finished)

    def log(self, metrics: Mapping[str, Number], step: int) -> None:
        """Record numbers."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, float(value), step)

    def close(self, result: RunEnded, text: str) -> None:
        """Write the verdict and close the file."""
        if text:
            self._writer.add_text("verdict", text)
        self._writer.close()
