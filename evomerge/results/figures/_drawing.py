"""Drawing SVG by hand: marks with class names, and the one style sheet that gives them looks.

A figure says everything by shape, position and words; color only repeats it. In a page the classes take the page's
colors, light or dark; a file of its own carries the light ones with it.
"""

import html
from collections.abc import Iterable
from typing import Literal

from evomerge.results._tables import printable

Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "triangle", "diamond", "star", "cross"]

WIDTH = 460  # of every figure, in units of its own: readable on a phone, two abreast on a desk
TEXT_WIDTH = 6.6  # of a character of the figures' font, about
STRONG_WIDTH = 7.7  # of a bold one

STYLE = """
.figure text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--ink,#1c2024)}
.figure .soft{fill:var(--soft,#5a6169)}
.figure .strong{font-weight:700}
.figure .small{font-size:11px}
.figure .axis{stroke:var(--soft,#5a6169);stroke-width:1;fill:none}
.figure .grid{stroke:var(--line,#dfe3e8);stroke-width:1;fill:none}
.figure .zero{stroke:var(--ink,#1c2024);stroke-width:1;stroke-dasharray:4 3;fill:none}
.figure .dots{stroke:var(--dot,#8b949e);stroke-linecap:round;stroke-width:3;stroke-opacity:.45;fill:none}
.figure .curve{stroke:var(--accent,#0b62c4);stroke-width:2;fill:none}
.figure .second{stroke:var(--second,#a84300);stroke-width:1.6;stroke-dasharray:7 3;fill:none}
.figure .thin{stroke:var(--soft,#5a6169);stroke-width:1;fill:none}
.figure .whisker{stroke:var(--ink,#1c2024);stroke-width:1.4;fill:none}
.figure .bar{fill:var(--accent,#0b62c4)}
.figure .cell{fill:var(--accent,#0b62c4)}
.figure .band{fill:var(--accent,#0b62c4);fill-opacity:.22}
.figure .mark{fill:var(--paper,#fff);stroke:var(--ink,#1c2024);stroke-width:1.4}
.figure .pick{fill:var(--accent,#0b62c4);stroke:var(--ink,#1c2024);stroke-width:1.4}
.figure .won{fill:var(--accent,#0b62c4)}
.figure .lost{fill:var(--second,#a84300)}
.figure .neither{fill:var(--line,#dfe3e8)}
"""


class Drawing:
    """A figure in the making; the origin is at the top left."""

    def __init__(self, height: float, *, title: str, description: str, width: float = WIDTH):
        """Begin.

        Args:
            height: in units of the figure.
            title: what it shows, in a few words.
            description: what can be read from it, for whoever cannot see it.
            width: in the same units.
        """
        self.width, self.height, self.title = width, height, title
        self._description = description
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a line."""
        self._parts.append(f'<path class="{css}" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"/>')

    def path(self, points: Iterable[tuple[float, float]], css: str, *, steps: bool = False) -> None:
        """Draw a line through points; with `steps`, one that keeps its height until the next point."""
        parts: list[str] = []
        for x, y in points:
            parts.append(f"M{_n(x)} {_n(y)}" if not parts else f"H{_n(x)}V{_n(y)}" if steps else f"L{_n(x)} {_n(y)}")
        self._parts.append(f'<path class="{css}" d="{"".join(parts)}"/>')

    def area(self, upper: Iterable[tuple[float, float]], lower: Iterable[tuple[float, float]], css: str) -> None:
        """Fill between two lines, both from left to right."""
        around = [*upper, *reversed([*lower])]
        self._parts.append(f'<path class="{css}" d="M{"L".join(f"{_n(x)} {_n(y)}" for x, y in around)}Z"/>')

    def dots(self, points: Iterable[tuple[float, float]], css: str = "dots") -> None:
        """Draw many small dots as one path."""
        self._parts.append(f'<path class="{css}" d="{"".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str, *, opacity: float = 1.0) -> None:
        """Fill a rectangle."""
        seen = "" if opacity >= 1 else f' fill-opacity="{opacity:.2f}"'
        size = f'width="{_n(max(0.0, width))}" height="{_n(height)}"'
        self._parts.append(f'<rect class="{css}" x="{_n(x)}" y="{_n(y)}" {size}{seen}/>')

    def mark(self, shape: Shape, x: float, y: float, *, css: str = "mark", size: float = 5, tip: str = "") -> None:
        """Draw a symbol; `tip` appears where a pointer rests on it."""
        inside = f"<title>{_escaped(tip)}</title>" if tip else ""
        self._parts.append(f'<path class="{css}" d="{_shape(shape, x, y, size)}">{inside}</path>')

    def text(self, x: float, y: float, text: str, *, css: str = "", anchor: Anchor = "start") -> None:
        """Write text on a baseline."""
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        looks = f' class="{css}"' if css else ""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{looks}{at}>{_escaped(text)}</text>')

    def svg(self, *, standalone: bool = False) -> str:
        """Return the SVG.

        Args:
            standalone: for a file of its own: with its style, on white.
        """
        about = f"<title>{_escaped(self.title)}</title><desc>{_escaped(self._description)}</desc>"
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        label = _escaped(f"{self.title}. {self._description}")
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" {size} role="img" aria-label="{label}"'
        if not standalone:
            return f"{head}>{about}{''.join(self._parts)}</svg>"
        page = f'<rect width="{_n(self.width)}" height="{_n(self.height)}" fill="#fff"/>'
        own = f' width="{_n(self.width)}" height="{_n(self.height)}">'
        return f"{head}{own}{about}<style>{_light(STYLE)}</style>{page}{''.join(self._parts)}</svg>\n"


def clipped(text: str, width: float, *, strong: bool = False) -> str:
    """Return text that fits into a width, its middle left out where it is too long."""
    most = max(3, int(width / (STRONG_WIDTH if strong else TEXT_WIDTH)))
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _escaped(text: str) -> str:
    """Return foreign text without markup, and without characters that XML does not allow."""
    return html.escape(printable(text), quote=True)


def _n(value: float) -> str:
    """Return a coordinate, to a tenth of a unit, as short as it can be."""
    return f"{value:.1f}".removesuffix(".0")


def _shape(shape: Shape, x: float, y: float, size: float) -> str:
    outlines: dict[Shape, list[tuple[float, float]]] = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.15), (1.05, 0.85), (-1.05, 0.85)],
        "diamond": [(0, -1.25), (1.1, 0), (0, 1.25), (-1.1, 0)],
        "star": [
            (0, -1.7), (0.45, -0.55), (1.65, -0.5), (0.7, 0.25), (1.05, 1.4),
            (0, 0.75), (-1.05, 1.4), (-0.7, 0.25), (-1.65, -0.5), (-0.45, -0.55),
        ],
        "cross": [
            (-1, -0.65), (-0.65, -1), (0, -0.35), (0.65, -1), (1, -0.65), (0.35, 0),
            (1, 0.65), (0.65, 1), (0, 0.35), (-0.65, 1), (-1, 0.65), (-0.35, 0),
        ],
    }  # fmt: skip
    if shape == "circle":
        arcs = (f"a{_n(size)} {_n(size)} 0 1 0 {_n(across)} 0" for across in (2 * size, -2 * size))
        return f"M{_n(x - size)} {_n(y)}{''.join(arcs)}Z"
    return "M" + "L".join(f"{_n(x + dx * size)} {_n(y + dy * size)}" for dx, dy in outlines[shape]) + "Z"


def _light(style: str) -> str:
    """Return the style with the fallback of each variable in its place, for programs that know no variables."""
    parts = style.split("var(")
    done = [parts[0]]
    for part in parts[1:]:
        inside, _, rest = part.partition(")")
        done.append(inside.partition(",")[2] + rest)
    return "".join(done)
