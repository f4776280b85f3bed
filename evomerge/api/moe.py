"""Make a mixture of experts of dense models."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.checkpoint import SHARD_BYTES, Parents, card_parents, refuse_existing
from evomerge.derived.moe import MoePlan, moe_card, plan_moe, write_moe
from evomerge.engine import Progress
from evomerge.recipe import MoeRecipe, load_moe, parse_moe


def moe(
    config: Path | str | Mapping[str, Any] | MoeRecipe,
    out: Path | str,
    *,
    seed: int = 0,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> MoePlan:
    """Make a mixture of experts out of dense models and return what was planned.

    Args:
        config: a mergekit-moe file, its content, or a MoeRecipe. seed: of random gates and noise.
        device: where gate_mode hidden runs the base model.

    Raises:
        InvalidInput: the file or its models do not make sense, or `out` exists. DegenerateModel: a weight is not
        finite. Nothing is left behind.
    """
    if isinstance(config, Mapping):
        config = parse_moe(config)
    elif not isinstance(config, MoeRecipe):
        config = load_moe(config)
    refuse_existing(Path(out))
    parents = Parents(config.models, config.root)
    plan = plan_moe(config, parents)
    described = card_parents([parents[ref] for ref in parents], digests=True)
    card = moe_card(Path(out).resolve().name, plan, described, seed=seed)
    record = {"parents": [parent._asdict() for parent in described]}
    notes = write_moe(
        plan, Path(out), seed=seed, device=device, shard_bytes=shard_bytes, card=card, record=record, progress=progress
    )
    return replace(plan, notes=(*plan.notes, *notes))
