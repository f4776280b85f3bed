"""`evomerge soup OUT --models A B C --tasks ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli._options import JSON, scoring_options, scoring_settings, split_names
from evomerge.cli._output import print_json, print_table

if TYPE_CHECKING:
    from evomerge.derived.soup import Soup


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1, metavar="")
@click.option("--models", multiple=True, metavar="MODEL...", help="Two or more checkpoints, separated by spaces.")
@scoring_options(limit=256, limit_help="Items per task that choose.")
@click.option("--report-limit", type=click.IntRange(min=1), help="Items per task that judge; all others by default.")
@JSON
def command(
    out: Path,
    more: tuple[str, ...],
    models: tuple[str, ...],
    tasks: str,
    report_limit: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Average checkpoints of one fine-tuning into OUT: best first, keeping each that does not lower the score.

    The average and the best single checkpoint are then compared on items that chose nothing.

    \b
    Example:
      evomerge soup souped/ --models run1/ run2/ run3/ --tasks arc_easy,hellaswag --limit 500
    """
    from evomerge.api.soup import soup

    made = soup(
        [*models, *more],
        out,
        split_names(tasks),
        report_limit=report_limit,
        say=lambda line: click.echo(line, err=True),
        **scoring_settings(**settings),
    )
    if as_json:
        print_json({"version": 1, "out": str(out), **made.plain()})
        return
    print_table(_table(made))
    for name, reason in made.unscored.items():
        click.echo(f"{name} could not be scored: {reason}")
    click.echo(f"on items that chose nothing: {made.text}")
    click.echo(str(out))


def _table(made: "Soup") -> Any:
    """Return the steps in the order in which they were taken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="greedy soup, scores on the selection items", title_justify="left")
    table.add_column("checkpoint", overflow="fold")
    for head in ("alone", "soup with it"):
        table.add_column(head, justify="right")
    table.add_column("kept")
    for step in made.greedy.steps:
        mixed = "-" if step.mixed is None else f"{step.mixed:.4f}"
        table.add_row(made.models[step.model], f"{step.alone:.4f}", mixed, "yes" if step.kept else "no")
    return table
