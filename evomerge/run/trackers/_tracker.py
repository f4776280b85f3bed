"""What a tracker is, and the facts that it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evomerge.records import Candidate, Domain, Objective, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A session of a run begins: a new run, or one that goes on where an earlier session stopped.

    Attributes:
        folder: the run folder; a tracker that writes files puts them under `folder / "logs"`.
        resumed: whether earlier sessions left results in the ledger. They are not reported again.
        objectives: what the search is for.
        optimizer: its name, resolved ("cma", never "auto").
        seed: of the run.
        search: the search file as plain data, overrides included.
        candidates_finished: searched candidates that earlier sessions finished.
        coordinates: a name for each coordinate of a candidate's point.
        domain: what the coordinates may be, or None: not known.
    """

    folder: Path
    resumed: bool
    objectives: tuple[Objective, ...]
    optimizer: str
    seed: int
    search: Mapping[str, Any]
    candidates_finished: int
    coordinates: tuple[str, ...] = ()
    domain: Domain | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMember:
    """One candidate that no other dominates, as far as is known.

    Attributes:
        candidate: its id.
        fitness: weighted mean of the objectives on their scales, less the penalty for missed floors.
        values: objective -> internal score, higher is better; on the search pool adjusted for item difficulty.
    """

    candidate: int
    fitness: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A session of a run ends.

    Attributes:
        state: "done" with a verdict; "stopped" by the user, and can be resumed; "failed" with an error, and can be
            resumed once its cause is removed.
        seconds: of the run, earlier sessions included.
        pick: id of the candidate that was picked, or None before that.
        verdict: as in `front --json`, or None.
        error: the sentence of a failed session, or "".
    """

    state: Literal["done", "stopped", "failed"]
    seconds: float
    pick: int | None = None
    verdict: Mapping[str, Any] | None = field(default=None)
    error: str = ""


class Tracker:
    """Receives the events of a run. Subclass it and override what is of interest; each call does nothing by default.

    All calls of one tracker come from one thread, one after another, in the order in which the ledger recorded the
    events; the search does not wait for them. What they are given is shared: it must not be changed. A call that raises
    switches the tracker off for the rest of the session. The constructor only keeps its options; files and connections
    are opened in `started`.

    Attributes:
        name: what the search file calls it; letters, digits, "_" and "-".
    """

    name: str = ""

    def started(self, run: RunStarted) -> None:
        """Take note that a session begins; always the first call."""

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        """Take note of a result: of a reference or a searched candidate, on one pool.

        Args:
            candidate: with its scores (internal: higher is better), or with the failure that it has instead.
            pool: "search" during the search, then "select" and "report" for finalists and references; those that race
                on the select items come again with each part that they are scored on.
        """

    def front_changed(self, front: Sequence[FrontMember], pool: Pool) -> None:
        """Take note of another Pareto front: now and then during the search, and once more on the select pool.

        Args:
            front: its members, the best fitness first.
            pool: whose scores it was found by.
        """

    def ended(self, result: RunEnded) -> None:
        """Take note that the session ends; always the last call. A killed driver does not make it."""


CALLS = ("started", "candidate_scored", "front_changed", "ended")


def is_tracker(value: object) -> bool:
    """Tell whether an object has the four methods of a tracker and a name."""
    return (
        not isinstance(value, type)
        and bool(getattr(value, "name", ""))
        and all(callable(getattr(value, call, None)) for call in CALLS)
    )
