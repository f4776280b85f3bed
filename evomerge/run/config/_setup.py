"""A checked search, ready to run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from evomerge import optimizers
from evomerge.checkpoint import Parents
from evomerge.engine.vllm import VllmOptions
from evomerge.errors import InvalidInput
from evomerge.evaluation import Prepared
from evomerge.recipe import ModelRef, Recipe, parse_recipe
from evomerge.records import Level, Objective, ParentSummary, Point, Stage
from evomerge.run.config._engine import vllm_options
from evomerge.run.config._extensions import Extensions
from evomerge.run.config._schema import SearchEntry
from evomerge.run.config._vocabulary import OutputVocabulary
from evomerge.run.trackers import Tracker
from evomerge.space import Reference, Space, reference_point

WORKER_BYTES = 700_000_000  # that a worker's libraries take, besides its model
AUTO = "auto"
ADAPTIVE_ITEMS = 16  # per objective and candidate, where a search begins whose subsets grow as differences shrink
FIXED_ITEMS = 64  # per objective and candidate, for other optimizers
REFERENCE_ITEMS = 32  # per objective and reference, where subsets grow
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
        vocabulary: the tokenizer that every candidate has; None = the parents share one.
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
    vocabulary: OutputVocabulary | None = None
    trackers: tuple[Tracker, ...] = ()
    extensions: Extensions = field(default_factory=Extensions)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search is for."""
        return self.prepared.objectives

    @property
    def vllm(self) -> VllmOptions | None:
        """How vLLM is to write answers; None = transformers does."""
        return vllm_options(self.entry.workers.engine)

    @property
    def models_held(self) -> int:
        """How many models a worker holds at once, besides the parents: its own, vLLM's, or both."""
        return 2 if self.vllm is not None and self.prepared.needs(self.prepared.tasks).model else 1

    @property
    def informed(self) -> bool:
        """Whether the optimizer waits for the references (see `OptimizerSpec.informed`)."""
        return optimizers.get(self.optimizer).waits_for_references(self.optimizer_options)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of a point that the search varies one after the other; none where there is one part."""
        stages: tuple[Stage, ...] = getattr(self.space, "stages", ())
        return stages

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that the search goes through, from coarse to fine; none where it varies everything at once."""
        levels: tuple[Level, ...] = getattr(self.space, "levels", ())
        return levels if optimizers.goes_by_levels(self.optimizer) else ()

    @property
    def adaptive_subsets(self) -> bool:
        """Whether the sizes of item subsets are chosen, and changed, in the course of the search."""
        spec, subset = optimizers.get(self.optimizer), self.entry.subset
        return subset.size == AUTO and subset.policy == "rotate" and self.informed and not spec.compares_generations

    @property
    def subset_items(self) -> int:
        """Items per objective that a candidate is scored on; where that is chosen in the course, about."""
        size = self.entry.subset.size
        if size != AUTO:
            return int(size)
        return min(ADAPTIVE_ITEMS if self.adaptive_subsets else FIXED_ITEMS, self.entry.pools.search)

    @property
    def few_for_references(self) -> bool:
        """Whether references are scored on a subset of the search pool, not on all of it.

        Values of different generations are compared, and a floor below a parent is known, by whole pools alone.
        """
        return self.adaptive_subsets and not self.relative_floors

    @property
    def reference_items(self) -> int:
        """Items per objective of the search pool that a reference is scored on."""
        return min(REFERENCE_ITEMS, self.entry.pools.search) if self.few_for_references else self.entry.pools.search

    @property
    def control_items(self) -> int:
        """Items per objective that a candidate of a random control is scored on."""
        size = self.entry.subset.size
        return FIXED_ITEMS if size == AUTO else int(size)

    @property
    def reference_points(self) -> dict[str, Point]:
        """Name of a reference -> the point of the space that is the same merge, for those that the space contains."""
        base = None if self.base is None else self.base.name
        models = [model.name for model in self.models]
        found = {}
        for reference in self.references:
            document = self._in_space(reference)
            point = document and reference_point(self.space, reference._replace(document=document), base, models)
            if point and (reference.kind == "parent" or self._merges_alike(reference.document, point)):
                found[reference.name] = point
        return found

    def _in_space(self, reference: Reference) -> dict[str, Any] | None:
        """Return a reference's recipe as the space knows it, without its tokenizer, or None if that is another one."""
        if self.vocabulary is None:
            return reference.document
        if reference.kind == "parent":  # as it is: the same model only where nothing of it has to move
            return reference.document if reference.name in self.vocabulary.unchanged else None
        try:
            return self.vocabulary.removed_from(reference.document)
        except InvalidInput:
            return None

    def _merges_alike(self, document: Mapping[str, Any], point: Point) -> bool:
        """Tell whether tokens that a model lacks have the same rows in a recipe and in a point's.

        Those of a model without weight are among the others' rows as well.
        """
        if self.vocabulary is None:
            return True
        return set(self.recipe(document).merged) == set(self.recipe(self.document(point)).merged)

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """All parents, the base first."""
        entry = self.entry.parents
        return (*([entry.base] if entry.base else []), *entry.models)

    @property
    def judges_front(self) -> bool:
        """Whether the front's other members are judged beside the pick."""
        wanted, several = self.entry.proof.front, len(self.objectives) > 1
        return several and not optimizers.get(self.optimizer).scalar if wanted == AUTO else bool(wanted)

    @property
    def races(self) -> bool:
        """Whether finalists that are clearly worse are scored on a part of the select items only."""
        floors = any(objective.floor is not None for objective in self.objectives) or bool(self.relative_floors)
        proof = self.entry.proof
        return proof.race == AUTO and proof.report == "all" and not floors and not self.judges_front

    @property
    def proof_jobs(self) -> tuple[int, int]:
        """How many candidates are scored on the select and on the report pool, at most."""
        proof, references = self.entry.proof, len(self.references)
        chosen = len({reference.kind for reference in self.references})
        selected, reported = (
            2 * proof.finalists + 2 + proof.merges + references,
            (references if proof.report == "all" else chosen) + 1,
        )
        reported += proof.finalists if self.judges_front else 0
        return (selected, reported) if self.entry.control is None else (selected + proof.finalists, reported + 1)

    def document(self, point: Point) -> dict[str, Any]:
        """Return the recipe of a point of the space, complete with the search's tokenizer, as plain data."""
        document = self.space.decode(point)
        return document if self.vocabulary is None else self.vocabulary.added_to(document)

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return a point whose `document` is this recipe.

        Raises:
            InvalidInput: there is none, or its tokenizer is not the search's.
        """
        return self.space.encode(document if self.vocabulary is None else self.vocabulary.removed_from(document))

    @property
    def row_bytes(self) -> int:
        """Bytes that the parents' rows on the candidates' vocabulary take in each worker."""
        return 0 if self.vocabulary is None else self.vocabulary.row_bytes

    def recipe(self, document: Mapping[str, Any]) -> Recipe:
        """Parse a document whose parents are named as in the search file."""
        return parse_recipe(document, root=self.folder)

    def identity(self) -> dict[str, Any]:
        """Return what a score depends on: a run may be resumed only while all of it stays the same."""
        found = self.entry.model_dump(mode="json", include=_SCORE_KEYS)
        return {
            **found,
            "proof": {**found["proof"], "front": self.judges_front, "race": self.races},
            "parents": {str(ref): self.parents[ref].digest for ref in self.refs},
            "space": self.space_data,
            **({} if self.vocabulary is None else {"tokenizer": self.vocabulary.document}),
            "tasks": {name: dict(facts) for name, facts in self.prepared.facts.items()},
            "weights": {o.name: [o.weight, o.scale, o.floor] for o in self.objectives},
            "relative_floors": dict(self.relative_floors),
            "optimizer": {"name": self.optimizer, **self.optimizer_options},
            "start": [reference.document for reference in self.references if reference.kind == "control"],
            "batch_size": self.entry.workers.batch_size,
            "device": "cuda" if self.entry.workers.gpus else "cpu",
            **({} if self.vllm is None else {"engine": self.entry.workers.engine.name}),
            **({} if self.entry.control is None else {"control": self.entry.control}),
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
        memory_needed=workers * (setup.models_held * max(sizes) + setup.row_bytes + WORKER_BYTES) + sum(sizes),
        memory_free=psutil.virtual_memory().available,
        disk_free=shutil.disk_usage(Path.cwd()).free,
    )
