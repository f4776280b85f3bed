"""`evomerge merge-files RECIPE OUT`."""

from pathlib import Path

import click

from evomerge.cli._options import SHARD_SIZE
from evomerge.cli._output import byte_progress
from evomerge.errors import format_bytes


@click.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-i", "--intersection", is_flag=True, help="Merge the tensors that all files have, and only those.")
@click.option("-u", "--union", is_flag=True, help="Merge each tensor of the files that have it.")
@click.option("--unpickle", is_flag=True, help="Read .bin, .pt, .pth, .ckpt files too, by a reader that runs no code.")
@click.option("--device", default="cpu", show_default=True, help="Where the arithmetic runs: cpu, cuda, cuda:1, ...")
@SHARD_SIZE
def command(
    recipe: Path, out: Path, intersection: bool, union: bool, unpickle: bool, device: str, shard_size: int
) -> None:
    """Merge files of tensors that are no model folders: any state dict, tensor by tensor.

    RECIPE is that of a merge whose models are files; OUT becomes a folder of safetensors files.

    \b
    Example:
      evomerge merge-files encoders.yaml merged/ --unpickle
    """
    from evomerge.api.merge_files import plan_files
    from evomerge.engine import write_tensors

    if intersection and union:
        raise click.UsageError("--intersection and --union exclude each other")
    plan, parents = plan_files(
        recipe, tensors="intersection" if intersection else "union" if union else "same", unpickle=unpickle
    )
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{plan.recipe.method} of {', '.join(str(ref) for ref in plan.recipe.models)}: {len(plan.tensors)} tensors, "
        f"{format_bytes(plan.size_bytes)}",
        err=True,
    )
    write_tensors(plan, parents, out, device=device, shard_bytes=shard_size, progress=byte_progress())
    click.echo(str(out))
