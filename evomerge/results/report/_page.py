"""The page as a whole."""

from pathlib import Path

from evomerge.errors import InvalidInput
from evomerge.results._headline import headline
from evomerge.results._shares import Shares, shares_of
from evomerge.results.figures import run_figures
from evomerge.results.report._html import text
from evomerge.results.report._reproduce import reproduce
from evomerge.results.report._sections import (
    cost,
    failures,
    front,
    genes,
    item_outcomes,
    pools,
    progress,
    recipe,
    verdict,
)
from evomerge.results.report._style import STYLE
from evomerge.run import Run, RunFacts

REPORT = "report.html"

_HEAD = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="generator" content="evomerge">'
)
_LINKS = {
    "verdict": "Verdict", "front": "Front", "progress": "Progress", "recipe": "Recipe", "genes": "Genes",
    "pools": "Pools", "items": "Items", "failures": "Failures", "cost": "Cost", "reproduce": "Reproduce",
}  # fmt: skip


def report_page(run: Run, *, examples: bool = True) -> str:
    """Return a run as one HTML page, which needs nothing besides itself.

    Args:
        run: finished or not.
        examples: whether the texts of a few items appear; leave them out of a page about items that must not be
            published.
    """
    facts = RunFacts(run)
    shares = shares_of(run, facts.pick) if facts.pick is not None else Shares({}, "", "")
    figures = run_figures(facts, shares)
    sections = [
        verdict(facts, figures),
        front(facts, figures),
        progress(facts, figures),
        recipe(facts, figures, shares),
        genes(figures),
        pools(facts, figures),
        item_outcomes(facts, figures, examples=examples),
        failures(facts),
        cost(facts),
        reproduce(facts),
    ]
    name = run.path.resolve().name
    links = "".join(
        f'<a href="#{identity}">{title}</a>'
        for identity, title in _LINKS.items()
        if any(f'<section id="{identity}"' in made for made in sections)
    )
    said = headline(facts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{_HEAD}<title>{text(f"{name}: {said.text}")}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>Search run {text(name)}</h1>"
        f"<nav>{links}</nav>{''.join(sections)}</main></body></html>\n"
    )


def write_report(run: Run, path: Path | None = None, *, examples: bool = True) -> Path:
    """Write the page to a file; one that is there is replaced when the new one is complete.

    Args:
        run: finished or not.
        path: of the file; None = `report.html` in the run folder.
        examples: see `report_page`.

    Returns:
        The file.

    Raises:
        InvalidInput: it cannot be written.
    """
    path = run.path / REPORT if path is None else path
    page = report_page(run, examples=examples)
    draft = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another file with --out") from None
    return path
