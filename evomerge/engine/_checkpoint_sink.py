"""The folder sink: a plan becomes a checkpoint folder, tensor by tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.checkpoint import (
    SHARD_BYTES,
    CheckpointWriter,
    Parents,
    copy_companions,
    write_chat_template,
    write_json,
)
from evomerge.engine._build import Builder
from evomerge.engine._plan_records import Plan
from evomerge.engine._residency import device_of
from evomerge.engine._threads import TensorMaker, made_in_order, thread_count
from evomerge.engine._tokenizer import output_tokenizer, template_of

ProgressCallback = Callable[[int, int], None]
"""Called with (bytes written so far, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTexts:
    """The texts of a model folder, beside weights, config, tokenizer and recipe.

    Attributes:
        card: text of README.md; empty = none.
        extra: further text files, name -> text.
        record: what evomerge.json holds besides the fingerprint.
    """

    card: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the files.

        Args:
            folder: where to.
            facts: what evomerge.json begins with.
        """
        for name, text in self.extra.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_json(folder / "evomerge.json", {**facts, **self.record})
        if self.card:
            (folder / "README.md").write_text(self.card, encoding="utf-8")


def write_folder(
    plan: Plan,
    parents: Parents,
    out: Path,
    *,
    texts: FolderTexts | None = None,
    shard_bytes: int = SHARD_BYTES,
    device: str = "cpu",
    block: int | None = None,
    threads: int = 1,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> None:
    """Build every tensor and write the model folder: weights, config, tokenizer, recipe.yaml, evomerge.json, card.

    Nothing is visible at `out` until all of it is there. Memory: one output tensor and cache-sized buffers, of which
    each thread has its own, and one tensor more.

    Args:
        plan: what to build.
        parents: the plan's opened models.
        out: the new folder.
        texts: card and other texts of the folder.
        shard_bytes: largest size of one file of weights.
        device: where tensors are merged: "cpu", "cuda", "cuda:1", ...
        block: elements worked on at a time; None = what suits the device. It changes no result.
        threads: that build tensors, on a CPU; 0 = by the measured bandwidth of memory. They change no result.
        overwrite: whether a model folder that evomerge wrote gives way, once the new one is whole.
        progress: called after each tensor.

    Raises:
        InvalidInput: `out` exists, or there is no such device here.
        DegenerateModel: a tensor is not finite; nothing is left behind.
        MergeFailed: a method has no result for its settings; nothing is left behind.
        ParentChanged: a parent's file changed meanwhile; nothing is left behind.
    """
    makers = _makers(plan, parents, device, threads, block)
    with CheckpointWriter(out, {tensor.name: tensor.info for tensor in plan.tensors}, shard_bytes, overwrite) as writer:
        _write_tensors(plan, makers, writer, progress)
        parents.check_unchanged()
        write_companions(plan, parents, writer.folder)
        pinned = plan.recipe.with_commits(parents.commits)
        (writer.folder / "recipe.yaml").write_text(pinned.to_yaml(out), encoding="utf-8")
        (texts or FolderTexts()).write(writer.folder, {"recipe": plan.recipe.fingerprint})


def write_companions(plan: Plan, parents: Parents, folder: Path) -> None:
    """Write what makes weights a model: config, tokenizer, generation settings, chat template, processors.

    Args:
        plan: of the merge.
        parents: the plan's opened models.
        folder: an existing one.

    Raises:
        InvalidInput: a parent's chat template or tokenizer config cannot be read.
        MergeFailed: a tokenizer cannot be read.
    """
    write_json(folder / "config.json", plan.config)
    output_tokenizer(plan.recipe, parents).write(folder)
    copy_companions(parents[plan.recipe.config_source], folder)
    template = template_of(plan.recipe, parents)
    if template is not None:
        write_chat_template(template, folder)


def write_tensors(
    plan: Plan,
    parents: Parents,
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> None:
    """Build every tensor and write a folder of weights and the recipe alone, where the parents are no models.

    Args:
        plan: what to build.
        parents: the plan's opened files.
        out: the new folder.
        shard_bytes: largest size of one file of weights.
        device: see `write_folder`.
        progress: called after each tensor.

    Raises:
        InvalidInput: `out` exists, or there is no such device here.
        DegenerateModel: a tensor is not finite; nothing is left behind.
        MergeFailed: a method has no result for its settings; nothing is left behind.
    """
    makers = _makers(plan, parents, device, 1)
    with CheckpointWriter(out, {tensor.name: tensor.info for tensor in plan.tensors}, shard_bytes) as writer:
        _write_tensors(plan, makers, writer, progress)
        parents.check_unchanged()
        (writer.folder / "recipe.yaml").write_text(plan.recipe.to_yaml(out), encoding="utf-8")
        write_json(writer.folder / "evomerge.json", {"recipe": plan.recipe.fingerprint})


def _makers(plan: Plan, parents: Parents, device: str, threads: int, block: int | None = None) -> list[TensorMaker]:
    """Return what builds the tensors: one maker, or one for each thread and one more."""
    where = device_of(device)
    count = thread_count(threads, where)
    largest_bytes = max((tensor.info.size_bytes for tensor in plan.tensors), default=0)
    return [
        TensorMaker(Builder(parents, keep_statistics=False, device=where, block=block), largest_bytes)
        for _ in range(1 if count == 1 else count + 1)
    ]


def _write_tensors(
    plan: Plan, makers: Sequence[TensorMaker], writer: CheckpointWriter, progress: ProgressCallback | None
) -> None:
    """Build all tensors and write them in their order."""
    done, total = 0, plan.size_bytes
    for tensor, made in made_in_order(plan.tensors, makers):
        writer.write(tensor.name, made)
        done += tensor.info.size_bytes
        if progress:
            progress(done, total)
