"""`evomerge export RUN OUT`."""

from contextlib import closing
from pathlib import Path

import click

from evomerge.cli._options import split_names
from evomerge.cli._output import byte_progress


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--id", "candidate_id", type=int, help="The candidate; by default the run's pick.")
@click.option(
    "--format",
    "formats",
    default="hf",
    show_default=True,
    help="hf, recipe, mergekit, lm_eval, optuna; with commas.",
)
def command(run: Path, out: Path, candidate_id: int | None, formats: str) -> None:
    """Write a candidate into a folder: a model with its card (hf), a recipe file, a mergekit file, its scores in the
    form of lm-eval's results (lm_eval); or the whole run as an Optuna study (optuna), for optuna-dashboard.

    \b
    Example:
      evomerge export runs/quickstart merged/ --format hf,mergekit
    """
    from evomerge.api.export import export
    from evomerge.results import next_step
    from evomerge.run import Run, RunFacts

    with closing(Run(run)) as opened:
        if candidate_id is None and (opened.verdict or {}).get("keep") is not None:
            click.echo(f"note: {next_step(RunFacts(opened))}", err=True)
        names = split_names(formats)
        for path in export(opened, out, candidate_id=candidate_id, formats=names, progress=byte_progress()):
            click.echo(str(path))
