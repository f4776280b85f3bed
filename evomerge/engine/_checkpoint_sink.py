"""The folder sink: a plan becomes a checkpoint folder, tensor by tensor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint import (
    SHARD_BYTES,
    CheckpointWriter,
    Parents,
    write_chat_template,
    write_json,
)
from evomerge.engine._build import Builder
from evomerge.engine._tokenizer import output_tokenizer, template_of
from evomerge.engine.live._devices import device_of
from evomerge.engine.plan._records import Plan

Progress = Callable[[int, int], None]
"""Called with (bytes written so far, bytes in all)."""


def write_folder(
    plan: Plan,
    parents: Parents,
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    device: str = "cpu",
    block: int | None = None,
    card: str = "",
    extra: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Build every tensor and write the model folder: weights, config, tokenizer, recipe.yaml, evomerge.json, card.

    card: text of README.md. extra: further text files. record: what evomerge.json says besides the fingerprint.

    Nothing is visible at `out` until all of it is there. Memory: one output tensor and cache-sized buffers.

    Raises:
        InvalidInput: `out` exists. DegenerateModel, MergeFailed: see `Builder.build`; nothing is left behind.
    """
    builder = Builder(parents, keep_statistics=False, device=device_of(device), block=block)
    largest = max((tensor.info.size_bytes for tensor in plan.tensors), default=0)
    tokenizer = output_tokenizer(plan.recipe, parents)
    template = template_of(plan.recipe, parents)
    with CheckpointWriter(out, {t.name: t.info for t in plan.tensors}, shard_bytes) as writer:
        reused = torch.empty(largest, dtype=torch.uint8, device=device)  # fresh pages would cost more than the copy
        done, total = 0, plan.size_bytes
        for tensor in plan.tensors:
            target = reused[: tensor.info.size_bytes].view(tensor.dtype).view(tensor.shape)
            builder.build(tensor, target)
            builder.finish()
            writer.write(tensor.name, target)
            done += tensor.info.size_bytes
            if progress:
                progress(done, total)
        write_json(writer.folder / "config.json", plan.config)
        tokenizer.write(writer.folder)
        if template is not None:
            write_chat_template(template, writer.folder)
        pinned = plan.recipe.with_commits(parents.commits)
        (writer.folder / "recipe.yaml").write_text(pinned.to_yaml(out), encoding="utf-8")
        for name, text in (extra or {}).items():
            (writer.folder / name).write_text(text, encoding="utf-8")
        write_json(writer.folder / "evomerge.json", {"recipe": plan.recipe.fingerprint, **(record or {})})
        if card:
            (writer.folder / "README.md").write_text(card, encoding="utf-8")
