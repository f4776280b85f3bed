"""`evomerge front RUN`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List every candidate, failed ones too.")
@click.option("--price", type=click.FloatRange(min=0), help="Of an hour of all machines: says what the run has cost.")
@click.option("--sort", metavar="COLUMN", help="id, what, an objective, search, adjusted, select or report.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values: every score of every pool.")
@JSON
def command(run: Path, everything: bool, price: float | None, sort: str | None, as_csv: bool, as_json: bool) -> None:
    """A run's front, finalists and references with the scores of all three pools.

    \b
    Examples:
      evomerge front runs/quickstart --json
      evomerge front runs/quickstart --all --sort adjusted
      evomerge front runs/quickstart --all --csv
    """
    from evomerge.results import (
        cost_text,
        floor_lines,
        front_document,
        missed_floor_lines,
        result_rows,
        results_csv,
        results_table,
    )
    from evomerge.run import Run

    opened = Run(run)
    if as_json:
        print_json(front_document(opened, everything=everything, price=price))
        return
    if as_csv:
        click.echo(results_csv(opened, everything=everything, sort=sort), nl=False)
        return
    print_table(results_table(opened, everything=everything, sort=sort))
    for line in missed_floor_lines(opened, result_rows(opened, everything=everything)):
        click.echo(line)
    if opened.verdict is not None:
        click.echo("\n".join([opened.verdict["text"], *floor_lines(opened.verdict)]))
    if price is not None:
        click.echo(f"cost: {cost_text(opened, price)}")
