"""`evomerge transplant MODEL TOKENIZER OUT`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli._options import JSON
from evomerge.cli._output import byte_progress, print_json

if TYPE_CHECKING:
    from evomerge.derived.vocabulary import NewRows


@click.command()
@click.argument("model")
@click.argument("tokenizer")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--new-rows", type=click.Choice(["omp", "subword", "mean"]), default="omp", show_default=True,
    help="Rows of tokens that MODEL does not have.",
)  # fmt: skip
@click.option("--atoms", type=click.IntRange(min=1), default=64, show_default=True, help="With omp: tokens combined.")
@JSON
def command(model: str, tokenizer: str, out: Path, new_rows: "NewRows", atoms: int, as_json: bool) -> None:
    """Write MODEL with the tokenizer of the model TOKENIZER, without training.

    Tokens that both have keep MODEL's rows. A new token gets the combination of shared tokens that gives its row in
    the other model (omp), the mean of the tokens that MODEL reads its text as (subword), or that of all shared ones.

    \b
    Example:
      evomerge transplant ./models/qwen ./models/llama qwen-as-llama/ --atoms 64
    """
    from evomerge.api.transplant import transplant

    report = transplant(model, tokenizer, out, new_rows=new_rows, atoms=atoms, progress=byte_progress())
    if as_json:
        print_json({"version": 1, "out": str(out), **asdict(report)})
        return
    left = "" if report.error is None else f", {100 * report.error:.3g}% of their length left over on average"
    click.echo(
        f"{out}: {report.shared} tokens keep their rows ({report.by_role} by their role), {report.new} got new ones"
        f"{left}, {report.padding} rows are padding"
    )
