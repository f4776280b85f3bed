"""`evomerge explain RUN ID`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table

FACTOR = (
    "factor: what a parent's difference from the base is multiplied by, weight times density; without a base, the "
    "parent's weight. Means over the tensors of a block"
)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("candidate_id", metavar="ID", type=int)
@JSON
def command(run: Path, candidate_id: int, as_json: bool) -> None:
    """One candidate: where it comes from, each parent's factor by layer, its scores and its recipe.

    \b
    Example:
      evomerge explain runs/quickstart 231
    """
    from evomerge.results import explain_document, printable
    from evomerge.run import Run

    opened = Run(run)
    candidate = opened.candidate(candidate_id)
    document = explain_document(opened, candidate)
    if as_json:
        print_json({"version": 1, **document})
        return
    click.echo(f"{printable(candidate.name)} (id {candidate_id}): {candidate.kind}, {candidate.state}")
    if candidate.generation >= 0:
        click.echo(f"generation {candidate.generation}, item subset {candidate.subset}, worker {candidate.worker}")
    if candidate.failure:
        click.echo(f"{candidate.failure.kind}: {printable(candidate.failure.reason)}")
        for line in candidate.failure.detail.splitlines():
            if printable(line) != printable(candidate.failure.reason):
                click.echo(f"  {printable(line)}")
    for pool, scores in document["scores"].items():
        for name, score in scores.items():
            low, high = score["interval"]
            click.echo(
                f"{pool:<7} {printable(name)}: {score['value']:.4f} (95% {low:.4f} to {high:.4f}, {score['n']} items)"
            )
    if "stack" in document:
        rows = [(f"layer {row['layer']}", row["model"], row["block"], row["gain"]) for row in document["stack"]]
        _print_rows("the stack, layer by layer", ("", "model", "its block", "gain"), rows)
        click.echo("gain: the factor on what the block adds to its input")
    elif document["shares"]:
        parents = list(dict.fromkeys(parent for row in document["shares"].values() for parent in row))
        rows = [(label, *(row.get(parent) for parent in parents)) for label, row in document["shares"].items()]
        _print_rows("factor on each parent", ("", *parents), rows)
        click.echo(FACTOR)
    elif "shares_note" in document and candidate.failure is None:
        click.echo(f"note: {printable(document['shares_note'])}", err=True)
    click.echo(opened.recipe(candidate).to_yaml().rstrip())


def _print_rows(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; numbers that are not known are dashes."""
    from rich import box
    from rich.table import Table

    from evomerge.results import printable

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for head in heads:
        table.add_column(printable(head), overflow="fold")
    for row in rows:
        cells = ("-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
        table.add_row(*(printable(cell) for cell in cells))
    print_table(table)
