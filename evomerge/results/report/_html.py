"""Small pieces of HTML. Everything that comes from a run is foreign text and is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from evomerge.results._tables import printable
from evomerge.results.figures import Figure


def text(value: object) -> str:
    """Return foreign text for a page: no markup, no control characters; lines stay lines."""
    return escape("\n".join(printable(line) for line in str(value).splitlines()), quote=True)


def paragraph(value: object, *, soft: bool = False) -> str:
    """Return a paragraph."""
    looks = ' class="soft"' if soft else ""
    return f"<p{looks}>{text(value)}</p>"


def section(identity: str, title: str, *parts: str) -> str:
    """Return a section with a heading that can be linked to; empty if all of its parts are."""
    inside = "".join(parts)
    return f'<section id="{identity}"><h2>{text(title)}</h2>{inside}</section>' if inside else ""


def figures(drawn: Iterable[Figure | None]) -> str:
    """Return figures beside each other, as far as they fit."""
    made = "".join(
        f"<figure><figcaption>{text(figure.title)}</figcaption>{figure.drawing.svg()}</figure>"
        for figure in drawn
        if figure is not None
    )
    return f'<div class="figures">{made}</div>' if made else ""


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = (0,), pick: int | None = None
) -> str:
    """Return a table that scrolls by itself where it is wider than the page; empty without rows.

    Args:
        heads: of the columns.
        rows: of cells, as plain text.
        words: numbers of the columns that hold words.
        pick: number of the row that is set in bold.
    """
    if not rows:
        return ""
    css = [' class="words"' if column in words else "" for column in range(len(heads))]
    top = "".join(f'<th scope="col"{looks}>{text(head)}</th>' for head, looks in zip(heads, css, strict=True))
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(f"<td{looks}>{text(cell)}</td>" for cell, looks in zip(row, css, strict=True))
        body += f'<tr class="pick">{cells}</tr>' if number == pick else f"<tr>{cells}</tr>"
    return f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def fact_list(facts: Iterable[tuple[str, object]]) -> str:
    """Return named facts side by side."""
    made = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{made}</dl>'


def folded(title: str, inside: str) -> str:
    """Return something that opens when its title is clicked; empty if there is nothing inside."""
    return f"<details><summary>{text(title)}</summary>{inside}</details>" if inside else ""


def code(value: object) -> str:
    """Return text as it stands, in a box."""
    return f"<pre><code>{text(value)}</code></pre>"
