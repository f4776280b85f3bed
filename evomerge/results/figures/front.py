"""The front: what the pick and its rivals score on each objective, with intervals, among everything that was tried."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from evomerge.records import POOLS, Candidate, Objective, Pool
from evomerge.results.figures._axes import frame, horizontal_axis, number_text, spanning
from evomerge.results.figures._drawing import STRONG_WIDTH, TEXT_WIDTH, Drawing, Shape, clipped
from evomerge.run import RunFacts, displayed_score

MAX_PAIRS = 3  # of objectives that are drawn
MAX_ROWS = 24  # of the figure for one objective
ROW = 20
SHAPES: dict[str, Shape] = {
    "candidate": "circle", "mean": "cross", "parent": "square", "simple": "triangle", "control": "diamond",
}  # fmt: skip
WORDS = {
    "candidate": "candidate", "mean": "mean of the search", "parent": "parent", "simple": "simple merge",
    "control": "start recipe",
}  # fmt: skip


def fronts(facts: RunFacts) -> list[Drawing]:
    """Return the front of a run: a plane for each of a few pairs of objectives, or rows for a single objective."""
    pool = _pool(facts)
    drawn = [candidate for candidate in facts.leading if pool in candidate.scores]
    if not drawn:
        return []
    if len(facts.objectives) == 1:
        return [_rows(facts, drawn[:MAX_ROWS], pool)]
    return [_plane(facts, drawn, pool, *pair) for pair in _pairs(facts)]


def _pool(facts: RunFacts) -> Pool:
    """Return the pool that the front was found on: select once it is scored."""
    return "select" if any("select" in candidate.scores for candidate in facts.leading) else POOLS[0]


def _pairs(facts: RunFacts) -> list[tuple[Objective, Objective]]:
    """Return the pairs of objectives that agree the least: what a front is about."""
    pairs = list(combinations(facts.objectives, 2))
    if len(pairs) <= MAX_PAIRS:
        return pairs
    table = {o.name: np.asarray([values[o.name] for values in facts.ranking.values.values()]) for o in facts.objectives}

    def agreement(pair: tuple[Objective, Objective]) -> float:
        a, b = (table[objective.name] for objective in pair)
        return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 1.0

    return sorted(pairs, key=agreement)[:MAX_PAIRS]


def _plane(facts: RunFacts, drawn: Sequence[Candidate], pool: Pool, across: Objective, up: Objective) -> Drawing:
    drawing = Drawing(
        424,
        title=f"{up.name} against {across.name}",
        description=f"{len(drawn)} candidates and references on the {pool} items with 95% intervals, among "
        f"{len(facts.ranking.values)} that were tried (search scores adjusted for item difficulty).",
    )
    intervals = {c.id: facts.run.intervals(c, pool) for c in drawn}
    pairs = [(facts.adjusted(c.id, across), facts.adjusted(c.id, up)) for c in facts.searched]
    cloud = [(a, b) for a, b in pairs if a is not None and b is not None]
    x = spanning([*(p[0] for p in cloud), *_ends(intervals, across)], 46, 446)
    y = spanning([*(p[1] for p in cloud), *_ends(intervals, up)], 318, 28)
    frame(drawing, x, y, x_label=_axis_name(across), y_label=_axis_name(up))
    drawing.dots((x(a), y(b)) for a, b in cloud)
    for candidate in reversed(drawn):  # the best on top
        (left, right), (low, high) = (intervals[candidate.id][o.name] for o in (across, up))
        a, b = (_value(candidate, pool, o) for o in (across, up))
        drawing.line(x(left), y(b), x(right), y(b), "thin")
        drawing.line(x(a), y(low), x(a), y(high), "thin")
    taken = [_Box(x(_value(c, pool, across)), y(_value(c, pool, up)) + 5, 6, 10) for c in drawn]
    for candidate in drawn:
        a, b = (_value(candidate, pool, o) for o in (across, up))
        tip = f"{candidate.name}: {across.name} {a:.4f}, {up.name} {b:.4f}"
        is_pick = facts.pick is not None and candidate.id == facts.pick.id
        _mark(drawing, candidate, x(a), y(b), is_pick=is_pick, tip=tip)
        if is_pick or candidate.kind in ("parent", "control"):
            _label(drawing, taken, x(a), y(b), facts.names[candidate.id], strong=is_pick)
    _legend(drawing, facts, drawn, 372, cloud=bool(cloud))
    return drawing


def _rows(facts: RunFacts, drawn: Sequence[Candidate], pool: Pool) -> Drawing:
    """Return a row for each candidate and reference, the best first."""
    objective = facts.objectives[0]
    bottom = ROW * len(drawn) + 24
    drawing = Drawing(
        bottom + 92,
        title=f"{objective.name}: the leading candidates and the references",
        description=f"Scores on the {pool} items with 95% intervals, the best first: "
        + ", ".join(f"{facts.names[c.id]} {_value(c, pool, objective):.4f}" for c in drawn[:4])
        + ".",
    )
    intervals = {c.id: facts.run.intervals(c, pool) for c in drawn}
    x = spanning(_ends(intervals, objective), 160, 400)
    horizontal_axis(drawing, x, bottom, label=f"{_axis_name(objective)}, {pool} items", top=14)
    for number, candidate in enumerate(drawn):
        y = 14 + ROW * number + ROW / 2
        low, high = intervals[candidate.id][objective.name]
        value = _value(candidate, pool, objective)
        is_pick = facts.pick is not None and candidate.id == facts.pick.id
        name = clipped(facts.names[candidate.id], 152, strong=is_pick)
        drawing.text(0, y + 4, name, css="strong" if is_pick else "")
        drawing.line(x(low), y, x(high), y, "whisker")
        _mark(drawing, candidate, x(value), y, is_pick=is_pick, tip=f"{candidate.name}: {value:.4f}")
        drawing.text(460, y + 4, number_text(value, 0.001), css="small", anchor="end")
    _legend(drawing, facts, drawn, bottom + 54, cloud=False)
    return drawing


def _mark(drawing: Drawing, candidate: Candidate, x: float, y: float, *, is_pick: bool, tip: str) -> None:
    if is_pick:
        drawing.mark("star", x, y, css="pick", size=6, tip=f"pick: {tip}")
    else:
        drawing.mark(SHAPES.get(candidate.kind, "circle"), x, y, size=4, tip=tip)


class _Box(NamedTuple):
    """What a label or a mark covers: from (x, y) to the right and upwards."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "_Box") -> bool:
        """Tell whether two boxes overlap."""
        beside = self.x > other.x + other.width or other.x > self.x + self.width
        return not (beside or self.y - self.height > other.y or other.y - other.height > self.y)


def _label(drawing: Drawing, taken: list[_Box], x: float, y: float, text: str, *, strong: bool) -> None:
    """Write a name beside a mark, where it covers the least."""
    text = clipped(text, 130, strong=strong)
    width = (STRONG_WIDTH if strong else TEXT_WIDTH) * len(text)
    places = [(dx, dy) for dy in (-8, 14, 4, -22, 28, -36, 42) for dx in (9.0, -9.0 - width)]
    boxes = [_Box(x + dx, y + dy, width, 11) for dx, dy in places]
    inside = [box for box in boxes if box.x >= 2 and box.x + box.width <= drawing.width]
    chosen = min(inside or boxes, key=lambda box: sum(box.meets(other) for other in taken))
    taken.append(chosen)
    css = "strong" if strong else "small"
    if chosen.x < x:
        drawing.text(chosen.x + width, chosen.y, text, css=css, anchor="end")
    else:
        drawing.text(chosen.x, chosen.y, text, css=css)


def _legend(drawing: Drawing, facts: RunFacts, drawn: Sequence[Candidate], top: float, *, cloud: bool) -> None:
    """Name the symbols below a plot, in two rows."""
    kinds = list(dict.fromkeys(c.kind for c in sorted(drawn, key=lambda c: list(SHAPES).index(c.kind))))
    entries: list[tuple[Shape | None, str, str]] = [("star", "pick", "the pick")] if facts.pick is not None else []
    entries += [(SHAPES[kind], "mark", WORDS[kind]) for kind in kinds]
    if cloud:
        entries.append((None, "dots", "every candidate (search items)"))
    x, y = 46.0, top
    for shape, css, words in entries:
        width = 24 + 6.6 * len(words)
        if x + width > drawing.width:
            x, y = 46.0, y + 18
        if shape is None:
            drawing.dots([(x, y)], css)
        else:
            drawing.mark(shape, x, y, css=css, size=4)
        drawing.text(x + 10, y + 4, words, css="soft small")
        x += width


def _ends(intervals: dict[int, dict[str, list[float]]], objective: Objective) -> list[float]:
    return [end for found in intervals.values() for end in found[objective.name]]


def _value(candidate: Candidate, pool: Pool, objective: Objective) -> float:
    value: float = displayed_score(objective, candidate.scores[pool][objective.name])["value"]
    return value


def _axis_name(objective: Objective) -> str:
    said = "" if objective.direction == "max" else ", lower is better"
    return clipped(f"{objective.name} ({objective.metric}{said})", 330)
