"""`evomerge watch RUN`."""

import sys
import time
from pathlib import Path

import click

MAX_SHARE = 0.05  # of the time that goes into reading the ledger


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seconds", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Between two looks.")
@click.option("--once", is_flag=True, help="Look once and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print progress as lines of JSON.")
def command(run: Path, seconds: float, once: bool, as_json: bool) -> None:
    """Follow a run from another terminal until it is done or nobody works on it any longer.

    Ctrl-C ends the watching, not the run.

    \b
    Example:
      evomerge watch runs/quickstart
    """
    from evomerge.results import floor_lines, headline, live_view
    from evomerge.run import Run, RunFacts, progress_of

    opened = Run(run)
    with live_view(run, sys.stderr, as_json=as_json, hint="Ctrl-C ends the watching, not the run.") as observer:
        while True:
            started = time.monotonic()
            observer.update(progress_of(opened))
            if once or opened.state == "done" or opened.owner is None:
                break
            spent = time.monotonic() - started
            time.sleep(max(seconds, spent / MAX_SHARE))
    if as_json:
        return
    facts = RunFacts(opened)
    said = headline(facts)
    click.echo(f"{said.symbol} {said.text}")
    if facts.verdict is not None:
        click.echo("\n".join([facts.verdict["text"], *floor_lines(facts.verdict)]))
    elif opened.owner is None:
        click.echo("nobody is working on it; the command that started it resumes it")
