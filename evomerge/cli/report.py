"""`evomerge report RUN`."""

from pathlib import Path

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import print_json


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page; by default RUN/report.html.")
@click.option(
    "--figures", type=click.Path(file_okay=False, path_type=Path), help="Write the figures here, too, as SVG."
)
@click.option("--png", is_flag=True, help="With --figures: as PNG, too.")
@click.option("--no-examples", is_flag=True, help="Leave the texts of items out of the page.")
@JSON
def command(run: Path, out: Path | None, figures: Path | None, png: bool, no_examples: bool, as_json: bool) -> None:
    """Write one HTML page about a run, which needs no network, and say in a few lines what came of it.

    The verdict, the front with intervals, progress, what the pick is made of, which genes mattered, what was won and
    lost item by item, failures, cost, and how to reproduce it all. Works while the run goes on.

    \b
    Example:
      evomerge report runs/quickstart --figures figures/
    """
    from evomerge.api.report import report
    from evomerge.results import summary_lines
    from evomerge.run import Run, RunFacts

    if png and figures is None:
        raise click.UsageError("--png is about figures as files: add --figures FOLDER")
    opened = Run(run)
    formats = ("svg", "png") if png else ("svg",)
    written = report(opened, out, figures=figures, formats=formats, examples=not no_examples)
    lines = summary_lines(RunFacts(opened))
    if as_json:
        files = [str(path) for path in written]
        print_json({"version": 1, "run": str(run), "page": files[0], "figures": files[1:], "summary": lines})
        return
    for line in lines:
        click.echo(line)
    for path in written:
        click.echo(str(path))
