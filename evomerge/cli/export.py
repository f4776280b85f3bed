"""`evomerge export RUN OUT`."""

from pathlib import Path

import click

from evomerge.cli._shared import byte_progress


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--id", "identity", type=int, help="The candidate; by default the run's pick.")
@click.option(
    "--format", "formats", default="hf", show_default=True, help="recipe, mergekit and hf, separated by commas."
)
def command(run: Path, out: Path, identity: int | None, formats: str) -> None:
    """Write a candidate into a folder: a model with its card (hf), a recipe file, a mergekit file.

    \b
    Example:
      evomerge export runs/quickstart merged/ --format hf,mergekit
    """
    from evomerge.results import export
    from evomerge.run import Run

    names = [name.strip() for name in formats.split(",") if name.strip()]
    for path in export(Run(run), out, identity=identity, formats=names, progress=byte_progress()):
        click.echo(str(path))
