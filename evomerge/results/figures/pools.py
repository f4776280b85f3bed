"""What a candidate scored where it was optimized, where it was chosen, and where nothing depended on it."""

from evomerge.records import POOLS, Candidate, Pool
from evomerge.results.figures._axes import Scale, number_text, spanning
from evomerge.results.figures._drawing import Drawing, clipped
from evomerge.run import RunFacts

WORDS: dict[Pool, str] = {"search": "search (optimized)", "select": "select (chosen on)", "report": "report (unseen)"}
MAX_LINES = 40


def pools(facts: RunFacts) -> Drawing | None:
    """Return the mean scores of finalists and references on the three pools, joined by lines; None before select."""
    rows = [c for c in facts.leading if sum(pool in c.scores for pool in POOLS) > 1][:MAX_LINES]
    if not rows:
        return None
    means = {c.id: {pool: facts.mean(c, pool) for pool in POOLS} for c in rows}
    pick = facts.pick
    drawing = Drawing(310, title="The same candidates on the three pools", description=_description(facts, rows))
    x = {pool: 60 + 138 * number for number, pool in enumerate(POOLS)}
    y = spanning([mean for found in means.values() for mean in found.values() if mean is not None], 268, 34)
    _columns(drawing, x, y)
    taken: list[float] = []
    for candidate in sorted(rows, key=lambda c: (pick is None or c.id != pick.id, c.kind == "candidate")):
        is_pick = pick is not None and candidate.id == pick.id
        points = [(x[pool], y(mean)) for pool in POOLS if (mean := means[candidate.id][pool]) is not None]
        drawing.path(points, "curve" if is_pick else "thin" if candidate.kind in ("candidate", "mean") else "second")
        for at_x, at_y in points:
            if is_pick:
                drawing.mark("star", at_x, at_y, css="pick", size=4)
            else:
                drawing.mark("circle", at_x, at_y, size=2.5)
        end_x, end_y = points[-1]
        if end_x == x["report"] and all(abs(end_y - other) > 13 for other in taken):
            taken.append(end_y)
            name = clipped(facts.names[candidate.id], 106)
            drawing.text(end_x + 9, end_y + 4, name, css="strong" if is_pick else "small")
    return drawing


def _columns(drawing: Drawing, x: dict[Pool, int], y: Scale) -> None:
    drawing.text(4, 12, "mean score", css="soft")
    for tick in (ticks := y.ticks()):
        drawing.line(x["search"], y(tick), x["report"], y(tick), "grid")
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
        drawing.text(x["search"] - 8, y(tick) + 4, number_text(tick, step), css="soft small", anchor="end")
    for pool, at in x.items():
        drawing.line(at, y.start, at, y.end, "axis")
        drawing.text(at, y.start + 18, WORDS[pool], css="soft small", anchor="middle")
    drawing.text(4, y.start + 36, "solid: found by the search; dashed: references; star: the pick", css="soft small")


def _description(facts: RunFacts, rows: list[Candidate]) -> str:
    pick = facts.pick
    if pick is None:
        return f"{len(rows)} finalists and references; there is no pick yet."
    said = [f"{pool} {mean:.4f}" for pool in POOLS if (mean := facts.mean(pick, pool)) is not None]
    return f"The pick's mean score: {', '.join(said)}. Search scores are too good by construction."
