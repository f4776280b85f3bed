"""How verbs print: JSON and tables on stdout, a byte counter on stderr."""

import json
import sys
import time
from collections.abc import Callable

import click

from evomerge.errors import format_bytes

TERMINAL_SECONDS = 0.1  # between updates of the byte counter on a terminal
LINE_SECONDS = 10.0  # between its lines anywhere else
PIPE_COLUMNS = 160  # width of a table that goes to no terminal: wide enough for everything


def print_json(value: object) -> None:
    """Print a result as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(table: object) -> None:
    """Print a rich table to stdout, as wide as the terminal, or wide enough for everything in a pipe."""
    from rich.console import Console

    Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False).print(table)


def byte_progress(done_word: str = "written") -> Callable[[int, int], None]:
    """Return a callback that shows bytes done and time left on stderr: in place on a terminal, else line by line.

    Args:
        done_word: what is done with the bytes, such as "read".
    """
    started = time.monotonic()
    last = started if not sys.stderr.isatty() else 0.0

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        on_terminal = sys.stderr.isatty()
        if done < total and now - last < (TERMINAL_SECONDS if on_terminal else LINE_SECONDS):
            return
        last = now
        left = (now - started) / done * (total - done) if done else 0.0
        line = f"{format_bytes(done)} of {format_bytes(total)} {done_word}, {left:.0f} s left"
        click.echo(f"\r{line:<60}" if on_terminal else line, err=True, nl=not on_terminal)
        if on_terminal and done >= total:
            click.echo(err=True)

    return show
