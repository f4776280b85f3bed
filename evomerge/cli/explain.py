"""`evomerge explain RUN ID`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table


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
    from rich import box
    from rich.table import Table

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
    if document["shares"]:
        parents = list(dict.fromkeys(parent for row in document["shares"].values() for parent in row))
        table = Table(box=box.SIMPLE_HEAD, title="factor on each parent", title_justify="left")
        for head in ("", *(printable(parent) for parent in parents)):
            table.add_column(head, overflow="fold")
        for label, row in document["shares"].items():
            table.add_row(label, *(f"{row[parent]:.3f}" if parent in row else "-" for parent in parents))
        print_table(table)
    elif "shares_note" in document and candidate.failure is None:
        click.echo(f"note: {printable(document['shares_note'])}", err=True)
    click.echo(opened.recipe(candidate).to_yaml().rstrip())
