"""`evomerge runs FOLDER`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default="runs")
@JSON
def command(folder: Path, as_json: bool) -> None:
    """List the runs in a folder: state, pick, held-out score, gain and time of each.

    \b
    Example:
      evomerge runs runs/
    """
    from evomerge.results import problem_lines, run_rows, runs_in, runs_table

    found = runs_in(folder)
    if as_json:
        print_json({"version": 1, "runs": run_rows(found)})
        return
    print_table(runs_table(found, folder))
    for line in problem_lines(found):
        click.echo(line)
