"""`evomerge compare RUN RUN`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json, print_table

RUN = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("first", metavar="RUN", type=RUN)
@click.argument("second", metavar="RUN", type=RUN)
@JSON
def command(first: Path, second: Path, as_json: bool) -> None:
    """Compare two runs; their picks item by item where both were scored on the same report items.

    \b
    Example:
      evomerge compare runs/first runs/second
    """
    from evomerge.results import comparison_document, comparison_table
    from evomerge.run import Run, compare_runs

    found = compare_runs(Run(first), Run(second))
    if as_json:
        print_json({"version": 1, **comparison_document(found)})
        return
    print_table(comparison_table(found))
    if found.gain is None:
        click.echo(f"the picks cannot be compared item by item: {found.reason}")
        return
    low, high = found.gain.low, found.gain.high
    said = "is better" if low > 0 else "is worse" if high < 0 else "is neither better nor worse, as far as is known"
    interval = f"paired 95% interval {low:+.4f} to {high:+.4f}"
    click.echo(
        f"the pick of {second} {said}: {found.gain.gain:+.4f} ({interval}) over that of {first}, on report items"
    )
