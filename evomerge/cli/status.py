"""`evomerge status RUN`."""

from pathlib import Path
from typing import Any

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--price", type=click.FloatRange(min=0), help="Of an hour of all machines: says what the run has cost.")
@JSON
def command(run: Path, price: float | None, as_json: bool) -> None:
    """Where a run stands; works from another terminal while the run goes on.

    \b
    Example:
      evomerge status runs/quickstart
    """
    from evomerge.results import status_lines
    from evomerge.run import Run

    opened = Run(run)
    summary = opened.summary()
    if as_json:
        about: dict[str, Any] = {"verdict": opened.verdict, "notes": opened.notes, **opened.cost(price)}
        print_json({"version": 1, "run": str(run), **summary._asdict(), **about})
        return
    for line in status_lines(opened, summary, price=price):
        click.echo(line)
