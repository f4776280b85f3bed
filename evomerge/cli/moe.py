"""`evomerge moe CONFIG OUT`."""

from pathlib import Path

import click

from evomerge.cli._mergekit_flags import MoeCommand
from evomerge.cli._options import SHARD_SIZE
from evomerge.cli._output import byte_progress
from evomerge.errors import format_bytes


@click.command(cls=MoeCommand)
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random gates and noise.")
@click.option("--device", default="cpu", show_default=True, help="Where gate_mode hidden runs the base model.")
@SHARD_SIZE
def command(config: Path, out: Path, seed: int, device: str, shard_size: int) -> None:
    """Make a mixture of experts out of dense models; a mergekit-moe file works as it is.

    Llama and Mistral models make a Mixtral, Qwen3 models a Qwen3-MoE; with shared_experts:, Qwen2, Llama and Mistral
    models make a Qwen2-MoE.

    \b
    Example:
      evomerge moe experts.yaml mixture/
    where experts.yaml holds
      base_model: ./models/base
      gate_mode: hidden          # or cheap_embed, random, uniform_random
      experts_per_token: 2
      experts:
        - source_model: ./models/math
          positive_prompts: ["What is 3 + 4?"]
        - source_model: ./models/prose
          positive_prompts: ["Tell me a story."]
          negative_prompts: ["What is 3 + 4?"]
    """
    from evomerge.api.moe import moe

    plan = moe(config, out, seed=seed, device=device, shard_bytes=shard_size, progress=byte_progress())
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{plan.family.name}: {len(plan.recipe.entry.experts)} experts, {len(plan.tensors)} tensors, "
        f"{format_bytes(plan.size_bytes)}",
        err=True,
    )
    click.echo(str(out))
