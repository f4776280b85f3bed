"""`evomerge search SEARCH --out RUN`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli._output import print_table

if TYPE_CHECKING:
    from evomerge.run import Run


@click.command()
@click.argument("search_file", metavar="SEARCH", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run folder.")
@click.option("--hours", type=float, help="Stop after this long, the proof included; overrides the file.")
@click.option("--candidates", type=click.IntRange(min=1), help="Stop after so many; overrides the file.")
@click.option("--workers", type=click.IntRange(min=0), help="Worker processes; 0 = in this one; overrides the file.")
@click.option("--seed", type=click.IntRange(min=0), help="Of a new run; overrides the file.")
@click.option("--control", type=click.Choice(["random"]), help="Also search at random with as many items: a rival.")
@click.option("--json", "as_json", is_flag=True, help="Print events as lines of JSON: progress, message, ended.")
def command(
    search_file: Path,
    out: Path,
    hours: float | None,
    candidates: int | None,
    workers: int | None,
    seed: int | None,
    control: str | None,
    as_json: bool,
) -> None:
    """Run a search, or resume it when the run folder exists. Ctrl-C stops cleanly; the same command resumes.

    \b
    Example:
      evomerge search experiments/quickstart/search.yaml --out runs/quickstart
    """
    from evomerge.api.search import search
    from evomerge.cli._main import INTERRUPTED
    from evomerge.results import JsonEvents, live_view

    with live_view(out, sys.stderr, as_json=as_json) as observer:
        run = search(
            search_file,
            out,
            hours=hours,
            candidates=candidates,
            workers=workers,
            seed=seed,
            control=control,
            observer=observer,
        )
    if isinstance(observer, JsonEvents):
        observer.event("ended", run=str(out), state=run.state, pick=run.fact("pick"), verdict=run.verdict)
        raise SystemExit(0 if run.state == "done" else INTERRUPTED)
    if run.state != "done":
        click.echo(f"stopped; everything so far is in {out}. The same command resumes.", err=True)
        raise SystemExit(INTERRUPTED)
    _print_results(run)


def _print_results(run: "Run") -> None:
    """Print a finished run: the table, the pick, the verdict, and what to do next."""
    from evomerge.results import REPORT, floor_lines, missed_floor_lines, next_step, result_rows, results_table
    from evomerge.run import RunFacts

    print_table(results_table(run))
    for line in missed_floor_lines(run, result_rows(run)):
        click.echo(line)
    pick, verdict = run.pick, run.verdict
    assert pick is not None
    click.echo(f"pick: {pick.name} (id {pick.id})")
    if not run.fact("pick_meets_floors", True):
        click.echo(
            "neither finalist nor reference meets every floor on the select items; the pick misses them by the least"
        )
    if verdict is not None:
        click.echo("\n".join([verdict["text"], *floor_lines(verdict)]))
    click.echo(f"report: {run.path / REPORT}", err=True)
    click.echo(f"next: {next_step(RunFacts(run))}", err=True)
