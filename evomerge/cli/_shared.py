"""What several verbs need: JSON on stdout, a byte counter on stderr."""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(table: Any) -> None:
    """Print a rich table to stdout, as wide as the terminal, or wide enough for everything in a pipe."""
    from rich.console import Console

    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Free memory by reference counts alone: importing torch makes many objects, and searching them takes 0.3 s."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searched:
            gc.enable()


def byte_progress(done_word: str = "written") -> Callable[[int, int], None]:
    """Return a callback that shows bytes done and time left on stderr: in place on a terminal, else every 10 s."""
    started = time.monotonic()
    last = [started if not sys.stderr.isatty() else 0.0]

    def show(done: int, total: int) -> None:
        now = time.monotonic()
        live = sys.stderr.isatty()
        if done < total and now - last[0] < (0.1 if live else 10.0):
            return
        last[0] = now
        left = (now - started) / done * (total - done) if done else 0.0
        line = f"{size(done)} of {size(total)} {done_word}, {left:.0f} s left"
        click.echo(f"\r{line:<60}" if live else line, err=True, nl=not live)
        if live and done >= total:
            click.echo(err=True)

    return show


def size(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
