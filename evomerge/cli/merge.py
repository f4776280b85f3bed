"""`evomerge merge RECIPE OUT`."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from evomerge.cli._mergekit_flags import MergekitAwareCommand
from evomerge.cli._options import SHARD_SIZE
from evomerge.cli._output import byte_progress
from evomerge.errors import format_bytes

WORKING_BYTES = 4e8  # what a merge needs besides the largest tensors: libraries, buffers, kernels


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Free memory by reference counts alone: importing torch makes many objects, and searching them takes 0.3 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@click.command(cls=MergekitAwareCommand)
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="Where the arithmetic runs: cpu, cuda, cuda:1, ...")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Threads that merge on a CPU; 0 = as many as memory has bandwidth for, measured. They change no byte.",
)
@SHARD_SIZE
@click.option("--seed", type=int, help="Seed of random masks; overrides the recipe's.")
@click.option("--dry-run", is_flag=True, help="Print the plan, the output's size and the memory needed, and stop.")
@click.option("--overwrite", is_flag=True, help="Replace a model of evomerge's at OUT once the new one is whole.")
@_garbage_collection_paused()
def command(
    recipe: Path,
    out: Path,
    device: str,
    threads: int,
    shard_size: int,
    seed: int | None,
    dry_run: bool,
    overwrite: bool,
) -> None:
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
        f"{len(plan.layers)} layers, {format_bytes(plan.size_bytes)} as {str(plan.dtype).removeprefix('torch.')}; "
        f"memory beside mapped files about {format_bytes(3 * largest * max(1, threads) + WORKING_BYTES)}",
        err=not dry_run,
    )
    if dry_run:
        return
    write_merge(
        plan,
        parents,
        out,
        device=device,
        shard_bytes=shard_size,
        threads=threads,
        overwrite=overwrite,
        progress=byte_progress(),
    )
    click.echo(str(out))
