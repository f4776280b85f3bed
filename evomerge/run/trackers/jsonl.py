"""The tracker `jsonl`: one line of JSON for each event, appended to a file in the run folder's logs/.

Each line has "event" (started, candidate_scored, front_changed, ended) and "time" (seconds since 1970); the rest are
the event's facts, with scores as {"value", "stderr", "n"}. Several sessions of a run append to one file.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any, TextIO

from evomerge.errors import InvalidInput
from evomerge.records import Candidate, Pool
from evomerge.run.trackers._tracker import FrontMember, RunEnded, RunStarted, Tracker


class JsonLines(Tracker):
    """Appends every event to a file, each flushed at once, so that other programs can follow it."""

    name = "jsonl"

    def __init__(self, *, file: str = "events.jsonl", recipes: bool = False):
        """Keep the options.

        Args:
            file: name of the file in the run folder's logs/.
            recipes: whether each candidate's line holds its recipe and its point, too.

        Raises:
            InvalidInput: `file` is no plain file name, or `recipes` is neither true nor false.
        """
        if not isinstance(file, str) or PurePath(file).name != file or file in ("", "..", "run.log"):
            raise InvalidInput(f"option file of tracker jsonl is {file!r}; expected a file name such as events.jsonl")
        if not isinstance(recipes, bool):
            raise InvalidInput(f"option recipes of tracker jsonl is {recipes!r}; expected true or false")
        self._file, self._recipes = file, recipes
        self._stream: TextIO | None = None

    def started(self, run: RunStarted) -> None:
        """Open the file and write what the run is."""
        path = run.folder / "logs" / self._file
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a", encoding="utf-8")
        self._write("started", {**asdict(run), "folder": str(run.folder)})

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        """Write one result."""
        facts = asdict(candidate)
        del facts["scores"]
        if not self._recipes:
            del facts["recipe"], facts["point"]
        scores = {name: asdict(score) for name, score in candidate.scores.get(pool, {}).items()}
        self._write("candidate_scored", {"pool": pool, **facts, "scores": scores})

    def front_changed(self, front: Sequence[FrontMember], pool: Pool) -> None:
        """Write the front."""
        self._write("front_changed", {"pool": pool, "front": [asdict(member) for member in front]})

    def ended(self, result: RunEnded) -> None:
        """Write how the session ended and close the file."""
        self._write("ended", asdict(result))
        if self._stream is not None:
            self._stream.close()

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        assert self._stream is not None, "started is always the first call"
        line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}, ensure_ascii=False, default=str)
        self._stream.write(line + "\n")
        self._stream.flush()
