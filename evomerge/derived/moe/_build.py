"""Dense models into a mixture of experts: everything but the mlps from the base, one expert from each model's mlps."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint import (
    SHARD_BYTES,
    CheckpointWriter,
    Model,
    Parents,
    TensorInfo,
    write_json,
)
from evomerge.derived.moe._families import MLP, MoeFamily
from evomerge.derived.moe._fit import family_for, misfits
from evomerge.derived.moe._gates import make_gates, undecided
from evomerge.engine import FolderTexts, ProgressCallback
from evomerge.errors import DegenerateModel, InvalidInput, first_few
from evomerge.recipe import PROMPTED_GATES, ExpertEntry, MoeRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeTensor:
    """One tensor of the mixture: a model's, perhaps with noise and a factor; one layer's gates; or zeros.

    Attributes:
        name: in the mixture.
        info: its dtype and shape.
        model: the model that it is taken from; None = gates or zeros.
        tensor: its name there.
        noise: standard deviation of normal noise that is added.
        address: which expert it belongs to; the noise of another one differs.
        factor: on the tensor, after the noise.
        gate: (name of the gates, layer) of one layer's gates.
    """

    name: str
    info: TensorInfo
    model: Model | None = None
    tensor: str = ""
    noise: float = 0.0
    address: str = ""
    factor: float = 1.0
    gate: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoePlan:
    """Everything about a mixture but the arithmetic.

    Attributes:
        recipe: what was planned.
        family: which mixtures the result is one of.
        base: the model that everything but the experts is taken from.
        tensors: in the order in which they are written.
        config: the result's config.json.
        notes: what the user should know.
    """

    recipe: MoeRecipe
    family: MoeFamily
    base: Model
    tensors: tuple[MoeTensor, ...]
    config: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the result's tensors."""
        return sum(tensor.info.size_bytes for tensor in self.tensors)


def plan_moe(recipe: MoeRecipe, parents: Parents) -> MoePlan:
    """Resolve a mixture against its opened models; no tensor is read.

    Args:
        recipe: what to build.
        parents: its opened models.

    Raises:
        InvalidInput: the models fit no family or not together; the first few problems in one message.
    """
    base = parents[recipe.entry.base_model]
    family = family_for(recipe, base)
    dtype = getattr(torch, recipe.entry.dtype) if recipe.entry.dtype else base.dtype
    problems = list(misfits(recipe, parents, base, family))
    if problems:
        raise InvalidInput(first_few(problems))
    name = str(dtype).removeprefix("torch.")
    return MoePlan(
        recipe=recipe,
        family=family,
        base=base,
        tensors=tuple(_tensors(recipe, parents, base, family, dtype)),
        config=family.config(base, len(recipe.entry.experts), recipe.entry.experts_per_token, name),
        notes=tuple(_notes(recipe)),
    )


def _notes(recipe: MoeRecipe) -> Iterator[str]:
    """Yield what the user should know of the recipe."""
    entry = recipe.entry
    for name in recipe.unused:
        yield f"{name} is accepted but has no effect: a mixture merges nothing"
    if entry.tokenizer_source is not None:
        yield "tokenizer_source has no effect: the tokenizer of a mixture is the base's"
    if entry.gate_mode not in PROMPTED_GATES:
        if any(expert.positive_prompts for expert in (*entry.experts, *entry.shared_experts)):
            yield f"gate_mode {entry.gate_mode} uses no prompts; those of the file have no effect"
        yield f"gate_mode {entry.gate_mode} routes at random: the mixture needs training before it is of use"


def _tensors(
    recipe: MoeRecipe, parents: Parents, base: Model, family: MoeFamily, dtype: torch.dtype
) -> Iterator[MoeTensor]:
    """Yield the result's tensors in the base's order; where a block's mlp begins, its router and experts."""
    begun: set[int] = set()
    weights = {f"self_attn.{weight}.weight" for weight in family.biases}
    for name, info in base.tensors.items():
        place = base.layout.site(name)
        if place.part != "block" or not place.suffix.startswith("mlp."):
            cast = TensorInfo(dtype if info.dtype.is_floating_point else info.dtype, info.shape)
            yield MoeTensor(name=name, info=cast, model=base, tensor=name)
            bias = name.removesuffix("weight") + "bias"
            if family.always and place.suffix in weights and bias not in base.tensors:
                yield MoeTensor(name=bias, info=TensorInfo(dtype, info.shape[:1]))
        elif place.layer not in begun:
            begun.add(place.layer)
            yield from _mixture(recipe, parents, base, family, dtype, place.layer)


def _mixture(
    recipe: MoeRecipe, parents: Parents, base: Model, family: MoeFamily, dtype: torch.dtype, layer: int
) -> Iterator[MoeTensor]:
    """Yield one block's gates and experts."""
    hidden, count = int(base.config["hidden_size"]), len(recipe.entry.experts)
    prefix = base.layout.name(layer, f"{family.mlp}.")
    gates = [("gate", count), *([("shared_expert_gate", 1)] if family.shared else [])]
    for gate, rows in gates:
        yield MoeTensor(name=f"{prefix}{gate}.weight", info=TensorInfo(dtype, (rows, hidden)), gate=(gate, layer))
    experts = [(f"experts.{i}", expert) for i, expert in enumerate(recipe.entry.experts)]
    experts += [("shared_expert", expert) for expert in recipe.entry.shared_experts]
    for owner, expert in experts:
        for weight in MLP:
            source = base.layout.name(layer, f"mlp.{weight}.weight")
            own = weight if owner == "shared_expert" else family.weights[weight]
            yield MoeTensor(
                name=f"{prefix}{owner}.{own}.weight",
                info=TensorInfo(dtype, base.tensors[source].shape),
                model=parents[expert.source_model],
                tensor=source,
                noise=expert.noise_scale or 0.0,
                address=owner,
                factor=_factor(expert, weight),
            )


def _factor(expert: ExpertEntry, weight: str) -> float:
    """Return the factor on one of an expert's weights: on the last projection it is one on the expert's output."""
    return 1.0 if expert.residual_scale is None or weight != "down_proj" else expert.residual_scale


def write_moe(
    plan: MoePlan,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    shard_bytes: int = SHARD_BYTES,
    texts: FolderTexts | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[str, ...]:
    """Write the mixture's folder: weights, config, tokenizer, moe.yaml, evomerge.json, card. Memory: one tensor.

    Args:
        plan: what to build.
        out: the new folder.
        seed: of random gates and noise.
        device: where gate_mode hidden runs the base model.
        shard_bytes: largest size of one file of weights.
        texts: card and other texts of the folder.
        progress: called after each tensor.

    Returns:
        What the user should know of the gates.

    Raises:
        InvalidInput: `out` exists, or prompts give no gate; nothing is left behind.
        DegenerateModel: a tensor is not finite; nothing is left behind.
    """
    with CheckpointWriter(out, {tensor.name: tensor.info for tensor in plan.tensors}, shard_bytes) as writer:
        entry = plan.recipe.entry
        gates = {"gate": make_gates(plan.base, entry.experts, entry.gate_mode, seed=seed, device=device)}
        if plan.family.shared:
            shared = make_gates(plan.base, entry.shared_experts, entry.gate_mode, seed=seed, stream=1, device=device)
            gates["shared_expert_gate"] = shared
        done, total = 0, plan.size_bytes
        for tensor in plan.tensors:
            writer.write(tensor.name, _build(tensor, gates, seed))
            done += tensor.info.size_bytes
            if progress:
                progress(done, total)
        write_json(writer.folder / "config.json", plan.config)
        plan.base.tokenizer.write(writer.folder)
        (writer.folder / "moe.yaml").write_text(plan.recipe.to_yaml(), encoding="utf-8")
        (texts or FolderTexts()).write(writer.folder, {"seed": seed})
    return tuple(_gate_notes(gates["gate"]))


def _gate_notes(gates: torch.Tensor) -> Iterator[str]:
    """Yield a line if two experts have the same gate in `gates`, (layers, experts, hidden)."""
    blocks = undecided(gates)
    if blocks:
        where = f"block {', '.join(map(str, blocks))}" if len(blocks) < len(gates) else "every block"
        yield (
            f"in {where} two experts have the same gate, so the choice between them is arbitrary there; their prompts "
            "end alike or are too similar"
        )


def _build(plan: MoeTensor, gates: Mapping[str, torch.Tensor], seed: int) -> torch.Tensor:
    """Return one tensor of the mixture, rounded once."""
    if plan.gate is not None:
        values = gates[plan.gate[0]][plan.gate[1]]
    elif plan.model is None:
        values = torch.zeros(plan.info.shape)
    else:
        values = plan.model.tensor(plan.tensor)
        if plan.noise or plan.factor != 1:
            values = values.to(torch.float32)
            if plan.noise:
                values = values + plan.noise * torch.randn(values.shape, generator=_generator(seed, plan))
            values = values * plan.factor
    result = values.to(plan.info.dtype).contiguous()
    if result.is_floating_point() and not bool(torch.isfinite(result).all()):
        source = plan.model.name if plan.model else "the gates"
        raise DegenerateModel(f"{plan.name} is not finite; {source} holds NaN, infinity or numbers too large for dtype")
    return result


def _generator(seed: int, plan: MoeTensor) -> torch.Generator:
    """Return the noise's generator, which depends on the seed, the expert's place and the tensor's name alone."""
    digest = hashlib.blake2b(f"{seed}\n{plan.address}\n{plan.tensor}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
