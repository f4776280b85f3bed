"""Scales with round ticks, and the frame around a plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.results.figures._drawing import Drawing

TICKS = 5  # about, on an axis


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to units of a drawing.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: where `low` is.
        end: where `high` is.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value is."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = TICKS) -> list[float]:
        """Return round values in the range, about so many."""
        raw = (self.high - self.low) / max(1, count)
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def spanning(values: Sequence[float], start: float, end: float, *, margin: float = 0.05) -> Scale:
    """Return a scale that holds all values with a margin at both ends."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    space = (high - low) * margin or abs(high) * 0.1 or 0.5
    return Scale(low - space, high + space, start, end)


def number_text(value: float, step: float = 0.0) -> str:
    """Return a number with as many digits as a step between ticks needs; thousands as k, millions as M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 3
    if step and abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    decimals = min(decimals, 6)
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def frame(drawing: Drawing, x: Scale, y: Scale, *, x_label: str, y_label: str) -> None:
    """Draw grid, ticks and names of two axes; `y.start` is the bottom."""
    ticks = y.ticks()
    for tick in ticks:
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        drawing.text(x.start - 6, y(tick) + 4, number_text(tick, _step(ticks)), css="soft small", anchor="end")
    horizontal_axis(drawing, x, y.start, label=x_label)
    drawing.line(x.start, y.start, x.start, y.end, "axis")
    drawing.text(x.start - 6, y.end - 8, y_label, css="soft")


def horizontal_axis(drawing: Drawing, x: Scale, bottom: float, *, label: str, top: float | None = None) -> None:
    """Draw an axis below a plot, with grid lines up to `top` where that is given."""
    drawing.line(x.start, bottom, x.end, bottom, "axis")
    ticks = x.ticks()
    for tick in ticks:
        if top is not None:
            drawing.line(x(tick), top, x(tick), bottom, "grid")
        drawing.line(x(tick), bottom, x(tick), bottom + 4, "axis")
        drawing.text(x(tick), bottom + 17, number_text(tick, _step(ticks)), css="soft small", anchor="middle")
    drawing.text((x.start + x.end) / 2, bottom + 33, label, css="soft", anchor="middle")


def _step(ticks: Sequence[float]) -> float:
    return ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
