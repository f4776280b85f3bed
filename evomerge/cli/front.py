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
@click.option("--prefer", metavar="NAME=WEIGHT,...", help="Name the front's best by other weights of objectives.")
@JSON
def command(
    run: Path, everything: bool, price: float | None, sort: str | None, as_csv: bool, prefer: str | None, as_json: bool
) -> None:
    """A run's front, finalists and references with the scores of all three pools.

    \b
    Examples:
      evomerge front runs/quickstart --json
      evomerge front runs/quickstart --all --sort adjusted
      evomerge front runs/quickstart --all --csv
      evomerge front runs/quickstart --prefer zoo_add=3,zoo_kanji=1
    """
    from evomerge.results import (
        cost_text,
        floor_lines,
        front_document,
        knee_lines,
        missed_floor_lines,
        preferred_line,
        result_rows,
        results_csv,
        results_table,
    )
    from evomerge.run import Run

    opened = Run(run)
    if prefer is not None:
        if as_json or as_csv:
            raise click.UsageError("--prefer prints a line; leave out --json and --csv")
        click.echo(preferred_line(opened, prefer))
        return
    if as_json:
        print_json(front_document(opened, everything=everything, price=price))
        return
    if as_csv:
        click.echo(results_csv(opened, everything=everything, sort=sort), nl=False)
        return
    print_table(results_table(opened, everything=everything, sort=sort))
    for line in missed_floor_lines(opened, result_rows(opened, everything=everything)):
        click.echo(line)
    for line in knee_lines(opened):
        click.echo(line)
    if opened.verdict is not None:
        click.echo("\n".join([opened.verdict["text"], *floor_lines(opened.verdict)]))
    if price is not None:
        click.echo(f"cost: {cost_text(opened, price)}")
