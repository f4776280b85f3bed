"""`evomerge lora MODEL BASE OUT`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli._mergekit_flags import LoraCommand
from evomerge.cli._options import JSON
from evomerge.cli._output import byte_progress, print_json
from evomerge.errors import format_bytes

if TYPE_CHECKING:
    from evomerge.derived.lora import LoraReport

MOST_NAMES = 5  # of tensors that one line lists


@click.command(cls=LoraCommand)
@click.argument("model")
@click.argument("base")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--rank", type=click.IntRange(min=1), default=32, show_default=True, help="Largest rank of a module.")
@click.option("--energy", type=float, help="Smallest rank that holds this share of the squared norm, such as 0.95.")
@click.option("--include", multiple=True, metavar="REGEX", help="Decompose only modules whose name matches.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Decompose no module whose name matches.")
@click.option(
    "--save-rest", is_flag=True, help="Store whole what cannot be decomposed and differs: embeddings, norms, biases."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True,
    help="Of the factors on disk.",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="Where the decompositions run: cpu, cuda, ...")
@JSON
def command(
    model: str,
    base: str,
    out: Path,
    rank: int,
    energy: float | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    save_rest: bool,
    dtype: str,
    device: str,
    as_json: bool,
) -> None:
    """Extract a PEFT LoRA adapter that turns BASE into MODEL, by singular value decomposition of the difference.

    Reports what is lost for each module and in all. MODEL and BASE are folders or hub ids.

    \b
    Example:
      evomerge lora ./models/math ./models/base math-lora/ --rank 64 --energy 0.99 --save-rest
    """
    from evomerge.api.lora import extract_lora

    report = extract_lora(
        model,
        base,
        out,
        rank=rank,
        energy=energy,
        include=include,
        exclude=exclude,
        save_rest=save_rest,
        dtype=dtype,
        device=device,
        progress=byte_progress("read"),
    )
    if as_json:
        print_json({"version": 1, "out": str(out), **report.plain()})
        return
    _print(report, out)


def _print(report: "LoraReport", out: Path) -> None:
    click.echo(f"{'module':<50} {'shape':>13} {'rank':>5} {'relative error':>15}")
    for module in report.modules:
        mark = "" if module.exact else "  (randomized)"
        shape = f"{module.shape[0]}x{module.shape[1]}"
        click.echo(f"{module.name:<50} {shape:>13} {module.rank:>5} {module.error:>15.2e}{mark}")
    if report.left_out:
        click.echo(f"left out, though they differ (see --save-rest): {_first_few(report.left_out)}")
    if report.saved:
        click.echo(f"stored whole: {_first_few(report.saved)}")
    click.echo(
        f"{out}: {len(report.modules)} modules, {format_bytes(report.size_bytes)}; "
        f"lost {100 * report.error:.3g}% of the task vector's norm, left-out tensors included"
    )


def _first_few(names: tuple[str, ...]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
