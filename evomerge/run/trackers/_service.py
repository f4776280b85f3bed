"""What the adapters to experiment trackers share: the same names and numbers in each of them."""

import contextlib
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from evomerge.errors import InvalidInput
from evomerge.records import Candidate, Pool
from evomerge.run.trackers._tracker import FrontMember, RunEnded, RunStarted, Tracker

Number = float | int


class Service(Tracker):
    """Turns events into numbers by name, in the metrics' own units, and leaves it to a subclass where they go.

    Names: "search/OBJECTIVE", "select/OBJECTIVE", "report/OBJECTIVE", "best/fitness", "front/size", "failures/KIND",
    "seconds", and in the end "verdict/gain", "verdict/low", "verdict/high" and "verdict/claimed".

    Attributes:
        package: that it needs.
        run: of this session.
    """

    package = ""
    run: RunStarted

    def __init__(self) -> None:
        """Count from nothing.

        Raises:
            InvalidInput: the package is not installed.
        """
        if find_spec(self.package.partition(".")[0]) is None:
            needed = self.package.partition(".")[0]
            raise InvalidInput(f"tracker {self.name} needs the package {needed}: pip install {needed}")
        self._step = 0
        self._failures: dict[str, int] = {}

    def started(self, run: RunStarted) -> None:
        """Open the service's run."""
        self.run, self._step = run, run.candidates_finished
        config = {"optimizer": run.optimizer, "seed": run.seed, **_flat(run.search)}
        with contextlib.redirect_stdout(sys.stderr):  # results alone go to stdout
            self.open(run, config)

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        """Record a result."""
        self._step += 1
        scores = candidate.scores.get(pool, {})
        metrics: dict[str, Number] = {
            f"{pool}/{o.name}": o.displayed(scores[o.name].value) for o in self.run.objectives if o.name in scores
        }
        if candidate.failure is not None:
            kind = candidate.failure.kind
            self._failures[kind] = self._failures.get(kind, 0) + 1
            metrics[f"failures/{kind}"] = self._failures[kind]
        if candidate.seconds is not None:
            metrics["seconds"] = candidate.seconds
        self.log({"candidate": candidate.id, "generation": candidate.generation, **metrics}, self._step)

    def front_changed(self, front: Sequence[FrontMember], pool: Pool) -> None:
        """Record the best fitness and the size of the front."""
        best: dict[str, Number] = {"best/fitness": front[0].fitness} if front else {}
        self.log({"front/size": len(front), **best}, self._step)

    def ended(self, result: RunEnded) -> None:
        """Record the verdict and close the service's run."""
        verdict = result.verdict or {}
        interval = verdict.get("interval") or (None, None)
        found = {"gain": verdict.get("gain"), "low": interval[0], "high": interval[1]}
        final: dict[str, Number] = {f"verdict/{name}": float(v) for name, v in found.items() if v is not None}
        if "claimed" in verdict:
            final["verdict/claimed"] = int(verdict["claimed"])
        if result.pick is not None:
            final["pick"] = result.pick
        if final:
            self.log(final, self._step)
        with contextlib.redirect_stdout(sys.stderr):
            self.close(result, str(verdict.get("text", "")) or result.error)

    @abstractmethod
    def open(self, run: RunStarted, config: Mapping[str, Any]) -> None:
        """Begin a run of the service, or go on with that of an earlier session.

        Args:
            run: the session.
            config: the search file and what became of it; names with dots, plain values.
        """

    @abstractmethod
    def log(self, metrics: Mapping[str, Number], step: int) -> None:
        """Record numbers.

        Args:
            metrics: by name.
            step: results so far; it never falls.
        """

    @abstractmethod
    def close(self, result: RunEnded, text: str) -> None:
        """End the run of the service.

        Args:
            result: how the session ended.
            text: the verdict, or the error, in words.
        """


def run_name(run: RunStarted, name: str | None) -> str:
    """Return what to call a run: as the user wishes, or like its folder."""
    return name or run.folder.name


def _flat(value: object, key: str = "") -> dict[str, Any]:
    """Return nested data as one level of names with dots; long texts are cut."""
    if isinstance(value, Mapping):
        return {n: v for inner, found in value.items() for n, v in _flat(found, f"{key}.{inner}".lstrip(".")).items()}
    if isinstance(value, list | tuple):
        return {n: v for i, found in enumerate(value) for n, v in _flat(found, f"{key}.{i}").items()}
    return {key: value if isinstance(value, bool | int | float) or value is None else str(value)[:500]}
