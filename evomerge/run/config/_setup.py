"""A checked search, ready to run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from evomerge.checkpoint import Parents
from evomerge.evaluation import Prepared
from evomerge.recipe import ModelRef, Recipe, parse_recipe
from evomerge.records import Objective, ParentSummary
from evomerge.run.config._extensions import Extensions
from evomerge.run.config._schema import SearchEntry
from evomerge.run.trackers import Tracker
from evomerge.space import Reference, Space

WORKER_BYTES = 700_000_000  # that a worker's libraries take, besides its model
_SCORE_KEYS = {"lm_eval", "pools", "subset", "proof", "allow_test_split", "seed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A checked search, ready to run.

    Attributes:
        where: the search file, as messages name it.
        folder: that relative paths start from.
        data: the search file as plain data, overrides included.
        entry: the same, read by its schema.
        parents: all parents, opened.
        base: summary of the base, or None.
        models: summaries of what is merged, in the order of the file.
        space: which merges may be visited.
        space_data: the same as plain data.
        prepared: the tasks, their items divided into pools.
        optimizer: its name, resolved ("cma", never "auto").
        optimizer_options: as given; those that are absent have their defaults.
        references: what every candidate is measured against; the user's own recipes last.
        relative_floors: objective -> (parent, distance below its score in the metric's own units).
        notes: sentences for the user.
        trackers: what receives the run's events.
        extensions: objects that the caller brought.
    """

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
    extensions: Extensions = field(default_factory=Extensions)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search is for."""
        return self.prepared.objectives

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """All parents, the base first."""
        entry = self.entry.parents
        return (*([entry.base] if entry.base else []), *entry.models)

    @property
    def proof_jobs(self) -> tuple[int, int]:
        """How many candidates are scored on the select and on the report pool, at most."""
        proof, references = self.entry.proof, len(self.references)
        chosen = len({reference.kind for reference in self.references})
        return 2 * proof.finalists + 1 + references, (references if proof.report == "all" else chosen) + 1

    def recipe(self, document: Mapping[str, Any]) -> Recipe:
        """Parse a document whose parents are named as in the search file."""
        return parse_recipe(document, root=self.folder)

    def identity(self) -> dict[str, Any]:
        """Return what a score depends on: a run may be resumed only while all of it stays the same."""
        return {
            **self.entry.model_dump(mode="json", include=_SCORE_KEYS),
            "parents": {str(ref): self.parents[ref].digest for ref in self.refs},
            "space": self.space_data,
            "tasks": {name: dict(facts) for name, facts in self.prepared.facts.items()},
            "weights": {o.name: [o.weight, o.scale, o.floor] for o in self.objectives},
            "relative_floors": dict(self.relative_floors),
            "optimizer": {"name": self.optimizer, **self.optimizer_options},
            "start": [reference.document for reference in self.references if reference.kind == "control"],
            "batch_size": self.entry.workers.batch_size,
            "device": "cuda" if self.entry.workers.gpus else "cpu",
            **self.extensions.identity(),
        }


class ResourceNeeds(NamedTuple):
    """What a search needs of this machine, about.

    Attributes:
        memory_needed: bytes that the workers and the parents take.
        memory_free: bytes of main memory available now.
        disk_free: bytes free at the working directory.
    """

    memory_needed: int
    memory_free: int
    disk_free: int


def resource_needs(setup: Setup) -> ResourceNeeds:
    """Return what a search needs of this machine and what is free."""
    sizes = [setup.parents[ref].size_bytes for ref in setup.refs]
    workers = max(1, setup.entry.workers.count)
    return ResourceNeeds(
        memory_needed=workers * (max(sizes) + WORKER_BYTES) + sum(sizes),
        memory_free=psutil.virtual_memory().available,
        disk_free=shutil.disk_usage(Path.cwd()).free,
    )
