"""`evomerge soup OUT --models A B C --tasks ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli._shared import JSON, print_json, print_table

if TYPE_CHECKING:
    from evomerge.run import Soup


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1, metavar="")
@click.option("--models", multiple=True, metavar="MODEL...", help="Two or more checkpoints, separated by spaces.")
@click.option("--tasks", required=True, help="lm-eval tasks, separated by commas; task/metric names a metric.")
@click.option("--task-path", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own task YAMLs.")
@click.option("--limit", type=click.IntRange(min=1), default=256, show_default=True, help="Items per task that choose.")
@click.option("--report-limit", type=click.IntRange(min=1), help="Items per task that judge; all others by default.")
@click.option("--num-fewshot", type=click.IntRange(min=0), help="Examples in each prompt.")
@click.option("--apply-chat-template", is_flag=True, help="Wrap prompts in the models' chat template.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the samples.")
@JSON
def command(
    out: Path,
    more: tuple[str, ...],
    models: tuple[str, ...],
    tasks: str,
    task_path: Path | None,
    limit: int,
    report_limit: int | None,
    num_fewshot: int | None,
    apply_chat_template: bool,
    batch_size: int,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Average checkpoints of one fine-tuning into OUT: best first, keeping each that does not lower the score.

    The average and the best single checkpoint are then compared on items that chose nothing.

    \b
    Example:
      evomerge soup souped/ --models run1/ run2/ run3/ --tasks arc_easy,hellaswag --limit 500
    """
    from evomerge.api import soup

    options = {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None}
    made = soup(
        [*models, *more],
        out,
        [name.strip() for name in tasks.split(",") if name.strip()],
        task_path=task_path,
        limit=limit,
        report_limit=report_limit,
        lm_eval={key: value for key, value in options.items() if value is not None},
        batch_size=batch_size,
        device=device,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    if as_json:
        print_json({"version": 1, "out": str(out), **made.plain()})
        return
    print_table(_table(made))
    for name, reason in made.unscored.items():
        click.echo(f"{name} could not be scored: {reason}")
    click.echo(f"on items that chose nothing: {made.text}")
    click.echo(str(out))


def _table(made: "Soup") -> Any:
    """Return the steps in the order in which they were taken."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="greedy soup, scores on the selection items", title_justify="left")
    table.add_column("checkpoint", overflow="fold")
    for head in ("alone", "soup with it"):
        table.add_column(head, justify="right")
    table.add_column("kept")
    for step in made.greedy.steps:
        mixed = "-" if step.mixed is None else f"{step.mixed:.4f}"
        table.add_row(made.models[step.model], f"{step.alone:.4f}", mixed, "yes" if step.kept else "no")
    return table
