"""`evomerge front RUN`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List every candidate, failed ones too.")
@click.option("--price", type=click.FloatRange(min=0), help="Of an hour of all machines: says what the run has cost.")
@JSON
def command(run: Path, everything: bool, price: float | None, as_json: bool) -> None:
    """A run's front, finalists and references with the scores of all three pools.

    \b
    Example:
      evomerge front runs/quickstart --json
    """
    from evomerge.results import cost_text, floor_lines, front_document, results_table
    from evomerge.run import Run

    opened = Run(run)
    if as_json:
        print_json(front_document(opened, everything=everything, price=price))
        return
    print_table(results_table(opened, everything=everything))
    if opened.verdict is not None:
        click.echo("\n".join([opened.verdict["text"], *floor_lines(opened.verdict)]))
    if price is not None:
        click.echo(f"cost: {cost_text(opened, price)}")
