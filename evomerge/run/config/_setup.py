"""A checked search, ready to run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from evomerge.checkpoint import Parents
from evomerge.evaluation import Prepared
from evomerge.recipe import ModelRef, Recipe, parse_recipe
from evomerge.records import Objective, ParentSummary
from evomerge.run.config._schema import SearchEntry
from evomerge.run.trackers import Tracker
from evomerge.space import Reference, Space

_SCORE_KEYS = ("lm_eval", "pools", "subset", "proof", "allow_test_split", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A checked search, ready to run. data: the search file as plain data, overrides included."""

    where: str
    folder: Path
    data: Mapping[str, Any]
    entry: SearchEntry
    parents: Parents
    base: ParentSummary | None
    models: tuple[ParentSummary, ...]
    space: Space
    space_data: Mapping[str, Any]
    prepared: Prepared
    optimizer: str
    optimizer_options: Mapping[str, Any]
    references: tuple[Reference, ...]
    relative_floors: Mapping[str, tuple[str, float]]
    notes: tuple[str, ...]
    trackers: tuple[Tracker, ...] = ()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search is for."""
        return self.prepared.objectives

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """All parents, the base first."""
        entry = self.entry.parents
        return (*([entry.base] if entry.base else []), *entry.models)

    def recipe(self, document: Mapping[str, Any]) -> Recipe:
        """Parse a document whose parents are named as in the search file."""
        return parse_recipe(document, root=self.folder)

    def identity(self) -> dict[str, Any]:
        """Return what a score depends on: a run may be resumed only while all of it stays the same."""
        kept = {key: value for key, value in self.entry.model_dump(mode="json").items() if key in _SCORE_KEYS}
        return {
            **kept,
            "parents": {str(ref): self.parents[ref].digest for ref in self.refs},
            "space": self.space_data,
            "tasks": {name: dict(facts) for name, facts in self.prepared.facts.items()},
            "weights": {o.name: [o.weight, o.scale, o.floor] for o in self.objectives},
            "relative_floors": dict(self.relative_floors),
            "optimizer": {"name": self.optimizer, **self.optimizer_options},
            "start": [reference.document for reference in self.references if reference.kind == "control"],
            "batch_size": self.entry.workers.batch_size,
            "device": "cuda" if self.entry.workers.gpus else "cpu",
        }


def needs(setup: Setup) -> dict[str, int]:
    """Return bytes of memory the workers need and bytes free, and bytes of disk free at the working directory."""
    size = max(setup.parents[ref].size_bytes for ref in setup.refs)
    workers = max(1, setup.entry.workers.count)
    return {
        "memory_needed": workers * (size + 700_000_000) + sum(setup.parents[ref].size_bytes for ref in setup.refs),
        "memory_free": psutil.virtual_memory().available,
        "disk_free": shutil.disk_usage(Path.cwd()).free,
    }
