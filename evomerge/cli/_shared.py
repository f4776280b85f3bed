"""What several verbs need: options, JSON on stdout, a byte counter on stderr."""

import functools
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

_COUNT = click.IntRange(min=1)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def scoring_options(*, limit: int | None, limit_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds what every verb that scores models takes; `scoring_settings` reads most of it.

    limit: default of --limit, None = all items.
    """
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    options = [
        click.option("--tasks", required=True, help="lm-eval tasks, separated by commas; task/metric names a metric."),
        click.option("--task-path", type=folder, help="Your own task YAMLs."),
        click.option("--limit", type=_COUNT, default=limit, show_default=limit is not None, help=limit_help),
        click.option("--num-fewshot", type=click.IntRange(min=0), help="Examples in each prompt."),
        click.option("--apply-chat-template", is_flag=True, help="Wrap prompts in the model's chat template."),
        click.option("--batch-size", type=_COUNT, default=64, show_default=True, help="Most rows of a forward pass."),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sample."),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)

    return decorate


def scoring_settings(
    task_path: Path | None,
    limit: int | None,
    num_fewshot: int | None,
    apply_chat_template: bool,
    batch_size: int,
    device: str,
    seed: int,
) -> dict[str, Any]:
    """Return the values of `scoring_options` as `api.evaluate` and `api.soup` take them."""
    lm_eval = {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None}
    return {
        "task_path": task_path,
        "limit": limit,
        "lm_eval": {key: value for key, value in lm_eval.items() if value is not None},
        "batch_size": batch_size,
        "device": device,
        "seed": seed,
    }


def split_names(text: str) -> list[str]:
    """Return the names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


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
