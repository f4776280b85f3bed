"""`evomerge merge RECIPE OUT`."""

from pathlib import Path

import click

from evomerge.cli._shared import byte_progress, no_search_for_cycles, size


def _shard_size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    units = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
    text = value.strip().lower().removesuffix("b") or "x"
    factor = units.get(text[-1], 1)
    number = text[:-1] if text[-1] in units else text
    try:
        count = int(float(number) * factor)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no size; write for example 500MB or 5GB") from None
    if count < 1:
        raise click.BadParameter(f"{value!r} is not above 0")
    return count


@click.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="Where the arithmetic runs: cpu, cuda, cuda:1, ...")
@click.option("--shard-size", default="5GB", show_default=True, callback=_shard_size, help="Largest weight file.")
@click.option("--seed", type=int, help="Seed of random masks; overrides the recipe's.")
@click.option("--dry-run", is_flag=True, help="Print the plan, the output's size and the memory needed, and stop.")
@no_search_for_cycles()
def command(recipe: Path, out: Path, device: str, shard_size: int, seed: int | None, dry_run: bool) -> None:
    """Build a checkpoint folder from a recipe; a mergekit YAML file is a recipe as it is.

    \b
    Example:
      evomerge merge recipe.yaml merged/ --shard-size 2GB
    """
    from evomerge.api.merge import plan_merge, write_merge

    plan, parents = plan_merge(recipe, seed=seed)
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    largest = max(tensor.info.size_bytes for tensor in plan.tensors)
    click.echo(
        f"{plan.recipe.method} of {', '.join(str(ref) for ref in plan.recipe.models)}: {len(plan.tensors)} tensors, "
        f"{len(plan.layers)} layers, {size(plan.size_bytes)} as {str(plan.dtype).removeprefix('torch.')}; "
        f"memory beside mapped files about {size(3 * largest + 4e8)}",
        err=not dry_run,
    )
    if dry_run:
        return
    write_merge(plan, parents, out, device=device, shard_bytes=shard_size, progress=byte_progress())
    click.echo(str(out))
