"""`evomerge.moe`: make a mixture of experts of dense models."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.checkpoint import SHARD_BYTES, Parents, card_parents, refuse_existing
from evomerge.derived.moe import MoePlan, moe_card, plan_moe, write_moe
from evomerge.engine import FolderTexts, ProgressCallback
from evomerge.recipe import MoeRecipe, load_moe, parse_moe


def plan_mixture(config: Path | str | Mapping[str, Any] | MoeRecipe) -> MoePlan:
    """Return what a mixture would be made of, after checking it; no weight is read and nothing is written.

    Args:
        config: a mergekit-moe file, its content, or a MoeRecipe.

    Raises:
        InvalidInput: the file or its models do not make sense.
    """
    return _planned(config)[0]


def _planned(config: Path | str | Mapping[str, Any] | MoeRecipe) -> tuple[MoePlan, Parents]:
    """Return a mixture's plan and its opened models."""
    if isinstance(config, Mapping):
        config = parse_moe(config)
    elif not isinstance(config, MoeRecipe):
        config = load_moe(config)
    parents = Parents(config.models, config.root)
    return plan_moe(config, parents), parents


def moe(
    config: Path | str | Mapping[str, Any] | MoeRecipe,
    out: Path | str,
    *,
    seed: int = 0,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressCallback | None = None,
) -> MoePlan:
    """Make a mixture of experts out of dense models.

    Args:
        config: a mergekit-moe file, its content, or a MoeRecipe.
        out: the folder to make; it must not exist.
        seed: of random gates and noise.
        device: where gate_mode hidden runs the base model.
        shard_bytes: largest size of a weight file.
        progress: called with bytes written and bytes in all.

    Returns:
        What was planned, with everything that is worth a note.

    Raises:
        InvalidInput: the file or its models do not make sense, or `out` exists. Nothing is left behind.
        DegenerateModel: a weight is not finite. Nothing is left behind.
    """
    out = Path(out)
    refuse_existing(out)
    plan, parents = _planned(config)
    described = card_parents([parents[ref] for ref in parents], digests=True)
    card = moe_card(out.resolve().name, plan, described, seed=seed)
    record = {"parents": [parent._asdict() for parent in described]}
    texts = FolderTexts(card=card, record=record)
    notes = write_moe(plan, out, seed=seed, device=device, shard_bytes=shard_bytes, texts=texts, progress=progress)
    return replace(plan, notes=(*plan.notes, *notes))
