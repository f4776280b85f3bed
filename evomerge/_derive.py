"""The parts of the Python API that make something else than a merge out of models: adapters, mixtures of experts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge import engine
from evomerge.checkpoint import SHARD_BYTES, Parents, parents_of, refuse_existing
from evomerge.engine import LoraOptions, LoraReport, MoePlan, Progress
from evomerge.errors import InvalidInput
from evomerge.recipe import ModelRef, MoeRecipe, load_moe, parse_moe


def extract_lora(
    model: Path | str,
    base: Path | str,
    out: Path | str,
    *,
    rank: int = 32,
    energy: float | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    save_rest: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress | None = None,
) -> LoraReport:
    """Write a PEFT LoRA adapter that turns `base` into the fine-tune `model`, and return what it holds and lost.

    Args:
        model, base: folders or hub ids. The other options: see `evomerge.engine.LoraOptions`.

    Raises:
        InvalidInput: a model or an option does not fit, the weights are the same, or `out` exists. DegenerateModel: a
        weight is not finite. Nothing is left behind.
    """
    options = LoraOptions(
        rank=rank,
        energy=energy,
        include=tuple(include),
        exclude=tuple(exclude),
        save_rest=save_rest,
        dtype=dtype,
    )
    refs = [ModelRef.parse(str(each)) for each in (model, base)]
    if refs[1].lora is not None:
        raise InvalidInput(f"{refs[1]}: PEFT needs a plain model as the base; merge its adapter into it first")
    opened = Parents(refs)
    return engine.extract_lora(
        opened[refs[0]],
        opened[refs[1]],
        Path(out),
        options,
        base_name=(refs[1].path, refs[1].revision),
        device=device,
        progress=progress,
    )


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
    plan = engine.plan_moe(config, parents)
    described = parents_of([parents[ref] for ref in parents], digests=True)
    card = engine.moe_card(Path(out).resolve().name, plan, described, seed=seed)
    record = {"parents": [parent._asdict() for parent in described]}
    notes = engine.write_moe(
        plan, Path(out), seed=seed, device=device, shard_bytes=shard_bytes, card=card, record=record, progress=progress
    )
    return replace(plan, notes=(*plan.notes, *notes))
