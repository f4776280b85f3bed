"""Trackers: what receives the events of a run while it goes on, for dashboards, experiment trackers and notebooks.

A tracker is an object with four methods (see `Tracker`). It is named in a search file (`trackers: [jsonl]`, or
`{name: jsonl, file: events.jsonl}` with options), brought by another package behind the entry point
`evomerge.trackers`, registered in this process with `register`, or given to `evomerge.search(trackers=[...])` as an
object. A tracker never changes a run: it is called after the ledger's commit, from a thread of its own, and one that
raises is switched off with one warning.

Must not import anything else of `evomerge.run`.
"""

from evomerge.run.trackers._fan_out import CLOSE_SECONDS, Trackers
from evomerge.run.trackers._registry import create, names, option_problems, register
from evomerge.run.trackers._tracker import (
    FrontMember,
    RunEnded,
    RunStarted,
    Tracker,
    is_tracker,
)

__all__ = [
    "CLOSE_SECONDS",
    "FrontMember",
    "RunEnded",
    "RunStarted",
    "Tracker",
    "Trackers",
    "create",
    "is_tracker",
    "names",
    "option_problems",
    "register",
]
