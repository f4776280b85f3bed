"""`evomerge.report`: one page about a run, and its figures as files."""

from pathlib import Path

from evomerge import results
from evomerge.run import Run, RunFacts


def report(
    run: Run | Path | str,
    out: Path | str | None = None,
    *,
    figures: Path | str | None = None,
    formats: tuple[str, ...] = ("svg",),
    examples: bool = True,
) -> list[Path]:
    """Write a run's report as one HTML page that needs no network, and its figures as files of their own.

    Args:
        run: a run, finished or not, or its folder.
        out: the page; None = `report.html` in the run folder.
        figures: a folder for the figures; None = only those in the page.
        formats: of the figures: "svg" and "png" (which needs resvg-py).
        examples: whether the page shows the texts of a few items.

    Returns:
        The files, the page first.

    Raises:
        InvalidInput: it is no run, or something cannot be written.
    """
    opened = run if isinstance(run, Run) else Run(run)
    page = results.write_report(opened, None if out is None else Path(out), examples=examples)
    if figures is None:
        return [page]
    return [page, *results.save_figures(RunFacts(opened), Path(figures), formats=formats)]
