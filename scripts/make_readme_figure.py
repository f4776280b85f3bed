"""Draw the README's picture from a finished quickstart: two figures of its report, side by side in one SVG.

Usage: python scripts/make_readme_figure.py [RUN]     (default: runs/quickstart, as `make demo` leaves it)
"""

import html
import re
import sys
from pathlib import Path

import evomerge

PAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "quickstart.svg"
SHOWN = ("comparisons", "shares")  # what was gained over everything else, and what of which parent the pick is made of
MARGIN, GAP, TITLE = 12, 32, 30  # around, between and above the figures
FONT = "font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif\" font-weight=\"700\""


def side_by_side(drawings: dict[str, str]) -> str:
    """Return one SVG with drawings beside each other under their titles, scaled by whoever shows it."""
    placed, left, height = [], MARGIN, 0
    for title, drawing in drawings.items():
        size = re.search(r'viewBox="0 0 (\d+)(?:\.\d+)? (\d+)', drawing)
        assert size is not None
        placed.append(f'<text x="{left}" y="{TITLE - 10}" font-size="14" {FONT}>{html.escape(title)}</text>')
        placed.append(drawing.replace("<svg ", f'<svg x="{left}" y="{TITLE}" ', 1).rstrip())
        left, height = left + int(size[1]) + GAP, max(height, int(size[2]))
    width, height = left - GAP + MARGIN, TITLE + height + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return f'{head}<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(placed) + "\n</svg>\n"


def main(run: Path) -> None:
    """Write the picture of a run."""
    figures = evomerge.Run(run).figures()
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(side_by_side({figures[name].title: figures[name].svg() for name in SHOWN}), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))
