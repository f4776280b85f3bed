"""A run in a notebook: the verdict, the front and the leading scores."""

from collections.abc import Mapping
from html import escape

from evomerge.records import POOLS
from evomerge.results._headline import headline
from evomerge.results._tables import printable
from evomerge.results.figures import Figure, run_figures
from evomerge.run import Run, RunFacts

MAX_ROWS = 12
FIGURES = ("comparisons", "front")


class NotebookPresenter:
    """How runs look in a notebook."""

    def html(self, run: Run) -> str:
        """Return verdict, front and table; everything foreign is escaped."""
        facts = RunFacts(run)
        said = headline(facts)
        text = "" if facts.verdict is None else _paragraph(facts.verdict["text"])
        made = run_figures(facts, only=FIGURES)
        figures = "".join(f"<div style='max-width:480px'>{figure.svg()}</div>" for figure in made.values())
        title = f"<h4>{said.symbol} {escape(printable(said.text))}</h4>"
        return (
            f"<div>{title}{text}<div style='display:flex;flex-wrap:wrap;gap:1em'>{figures}</div>{_table(facts)}</div>"
        )

    def figures(self, run: Run) -> Mapping[str, Figure]:
        """Return the figures of the report."""
        return run_figures(RunFacts(run))


def _paragraph(text: str) -> str:
    return f"<p>{escape(printable(text))}</p>"


def _table(facts: RunFacts) -> str:
    """Return the leading candidates and references with their means."""
    heads = "".join(f"<th>{head}</th>" for head in ("id", "what", *(f"{pool} mean" for pool in POOLS)))
    rows = ""
    for candidate in facts.leading[:MAX_ROWS]:
        name = escape(printable(candidate.name))
        means = [facts.mean(candidate, pool) for pool in POOLS]
        cells = "".join(f"<td>{'-' if mean is None else f'{mean:.4f}'}</td>" for mean in means)
        rows += f"<tr><td>{candidate.id}</td><td style='text-align:left'>{name}</td>{cells}</tr>"
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
