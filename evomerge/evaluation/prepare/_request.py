"""What may be asked of this room: which tasks, and how many items for each pool."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evomerge.records import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """One entry of a search file's `tasks:` list; exactly one of `task` and `scorer` is set.

    task: name of an lm-eval task, group or tag. scorer: "file.py:function", run on the lines of the JSONL file `items`.
    metric: of the task, "acc" or "exact_match,flexible-extract" (metric, filter); None = its first one.
    num_fewshot: examples in this task's prompts; None = as `lm_eval_options` and the task say. Tasks that state 0
        themselves keep it, as on lm-eval's command line.
    direction: of a scorer's numbers; an lm-eval task states its own.
    weight, floor, scale: as in `evomerge.records.Objective`; a floor relative to a parent is the caller's to resolve.
    where: the place to name in messages, e.g. "search.yaml: tasks.0".
    """

    task: str | None = None
    scorer: str | None = None
    items: Path | None = None
    metric: str | None = None
    num_fewshot: int | None = None
    direction: Literal["max", "min"] = "max"
    weight: float = 1.0
    floor: float | None = None
    scale: tuple[float, float] | None = None
    where: str = "tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSizes:
    """Number of items per task in each pool; a pool of 0 items is allowed (scoring one model needs no search).

    report: None = every item that the other pools leave.
    """

    search: int
    select: int
    report: int | None

    def of(self, pool: Pool) -> int:
        """Return the size of one pool; 0 where it takes what is left."""
        return {"search": self.search, "select": self.select, "report": self.report or 0}[pool]


class Refused(Exception):
    """One entry cannot be used. The text is a sentence on its way to a Problem; callers of the room never see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A part of an objective's items. source: which prepared task or scorer. numbers: of its items in the objective's
    numbering, those of the source plus the first of them.
    """

    source: str
    numbers: range


class UnknownName(Refused):
    """The entry names a task that does not exist; what to suggest is found out by whoever reports it."""
