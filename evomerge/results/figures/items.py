"""Item by item: what was won and what was lost."""

from evomerge.results.figures._drawing import Drawing, clipped
from evomerge.run import Outcomes, RunFacts

ROW = 46


def items(facts: RunFacts, found: Outcomes) -> Drawing:
    """Return a bar for each objective: the items that one candidate wins and loses against another."""
    first, other = facts.names[found.first.id], facts.names[found.other.id]
    drawing = Drawing(
        ROW * len(found.objectives) + 16,
        title=f"{first} against {other}, item by item",
        description=f"On the {found.pool} items: "
        + "; ".join(f"{o.objective}: {o.won} won, {o.lost} lost of {o.items}" for o in found.objectives)
        + ".",
    )
    for number, row in enumerate(found.objectives):
        y = ROW * number
        drawing.text(0, y + 14, clipped(row.objective, 170, strong=True), css="strong")
        said = f"{row.won} won, {row.lost} lost, {row.items - row.won - row.lost} the same, of {row.items}"
        drawing.text(460, y + 14, said, css="small", anchor="end")
        unit = 460 / max(1, row.items)
        drawing.rect(0, y + 20, 460, 14, "neither")
        drawing.rect(0, y + 20, row.won * unit, 14, "won")
        drawing.rect(460 - row.lost * unit, y + 20, row.lost * unit, 14, "lost")
    said = f"left: {clipped(first, 130)} wins; right: {clipped(other, 130)} wins"
    drawing.text(0, ROW * len(found.objectives) + 10, clipped(said, 460), css="soft small")
    return drawing
