"""The verdict as a figure: the pick's gain over every reference, each with its interval."""

from collections.abc import Mapping
from typing import Any

from evomerge.results.figures._axes import horizontal_axis, spanning
from evomerge.results.figures._drawing import Drawing, clipped
from evomerge.run import RunFacts, what_of

ROW = 22
LEFT, RIGHT = 136, 292  # of the plot


def comparisons(facts: RunFacts) -> Drawing | None:
    """Return a row for each comparison of the verdict, the hardest first; None without any."""
    rows = sorted((facts.verdict or {}).get("comparisons", []), key=lambda row: row["interval"][0])
    if not rows:
        return None
    pick, hardest = facts.pick, _name(facts, rows[0])
    drawing = Drawing(
        ROW * len(rows) + 62,
        title="The pick's gain over every reference",
        description=f"Gains on the report items, which the search never saw, with 95% intervals; the hardest is "
        f"{rows[0]['gain']:+.4f}, {rows[0]['interval'][0]:+.4f} to {rows[0]['interval'][1]:+.4f}, over "
        f"{hardest}.",
    )
    x = spanning([0.0, *(end for row in rows for end in row["interval"])], LEFT, RIGHT)
    bottom = ROW * len(rows) + 24
    horizontal_axis(drawing, x, bottom, label="gain: the pick's mean score less the reference's", top=18)
    drawing.line(x(0), 14, x(0), bottom, "zero")
    drawing.text(0, 10, f"{'pick' if pick is None else clipped(facts.names[pick.id], 200)} against", css="soft")
    drawing.text(460, 10, "gain, 95% interval", css="soft", anchor="end")
    for number, row in enumerate(rows):
        y = 18 + ROW * number + ROW / 2
        (low, high), gain = row["interval"], row["gain"]
        known = facts.by_id.get(row["id"])
        label = facts.names.get(row["id"], _name(facts, row))
        drawing.text(0, y + 4, clipped(label, LEFT - 8, strong=number == 0), css="strong" if number == 0 else "")
        drawing.line(x(low), y, x(high), y, "whisker")
        for end in (low, high):
            drawing.line(x(end), y - 4, x(end), y + 4, "whisker")
        kind = "reference" if known is None else what_of(known)
        drawing.mark(
            "diamond", x(gain), y, css="pick" if low > 0 else "mark", tip=f"{_name(facts, row)} ({kind}): {gain:+.4f}"
        )
        drawing.text(460, y + 4, f"{gain:+.3f} ({low:+.3f} to {high:+.3f})", css="small", anchor="end")
    return drawing


def _name(facts: RunFacts, row: Mapping[str, Any]) -> str:
    """Return the name of a reference; verdicts of older versions have none."""
    known = facts.by_id.get(row["id"])
    return str(row.get("name", "a reference")) if known is None else known.name
