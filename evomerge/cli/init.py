"""`evomerge init SEARCH --models A B --tasks ...`."""

from pathlib import Path

import click

from evomerge.cli._options import split_names
from evomerge.errors import InvalidFile


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("more", nargs=-1, metavar="")
@click.option("--base", help="The common ancestor of the models: a folder or hub id.")
@click.option("--models", multiple=True, metavar="MODEL...", help="What is merged: folders or hub ids.")
@click.option(
    "--from",
    "genome",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A mergekit-evolve file: its search in our words, and what could not be carried over.",
)
@click.option("--tasks", default="", help="lm-eval tasks, separated by commas; task/metric names a metric.")
@click.option(
    "--task-path", type=click.Path(exists=True, file_okay=False), help="A folder with task YAMLs of your own."
)
@click.option("--space", help="A space of `evomerge spaces`, or a file; one that fits by default.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Of the budget.")
@click.option("--candidates", type=click.IntRange(min=1), help="Of the budget.")
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="0 = without Ray.")
@click.option("--gpus", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of each worker.")
@click.option("--no-check", is_flag=True, help="Do not look at parents and tasks.")
def command(
    out: Path,
    more: tuple[str, ...],
    base: str | None,
    models: tuple[str, ...],
    genome: Path | None,
    tasks: str,
    task_path: str | None,
    space: str | None,
    hours: float | None,
    candidates: int | None,
    workers: int,
    gpus: float,
    no_check: bool,
) -> None:
    """Write a search file with a comment beside each key, and check it.

    \b
    Examples:
      evomerge init search.yaml --base org/base --models org/math org/code --tasks gsm8k,arc_challenge/acc_norm
      evomerge init search.yaml --from evolve.yml
    """
    from evomerge.api.init import init, init_from_genome
    from evomerge.run import check_search

    if genome is not None and (models or more or tasks or base or space):
        raise click.UsageError("--from brings models, tasks and space with it; change them in the file that is written")
    try:
        if genome is not None:
            for note in init_from_genome(out, genome, check=False):
                click.echo(f"note: {note}", err=True)
            if not no_check:
                check_search(out)
        else:
            init(
                out,
                [*models, *more],
                split_names(tasks),
                base=base,
                task_path=task_path,
                space=space,
                hours=hours,
                candidates=candidates,
                workers=workers,
                gpus=gpus,
                check=not no_check,
            )
    except InvalidFile as error:
        if not out.exists():
            raise
        click.echo(f"{out} is written; change what is named here, then run `evomerge check {out}`:", err=True)
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from None
    click.echo(str(out))
    checked = "" if no_check else "it has no problems; "
    click.echo(f"{checked}next: evomerge search {out} --out runs/{out.stem}", err=True)
