"""What each parent contributes to a merge, block by block."""

from collections.abc import Mapping

from evomerge.results.figures._drawing import Drawing, clipped

LABEL_WIDTH = 92
MAX_PARENTS = 8
MAX_ROW, MIN_ROW = 20.0, 13.0
MAX_HEIGHT = 1100.0
DARKEST = 0.6  # opacity of the largest factor, on which text can still be read


def heat_map(shares: Mapping[str, Mapping[str, float]], names: Mapping[str, str], title: str) -> Drawing | None:
    """Return a cell for each block and parent, with its factor in numbers.

    Args:
        shares: block -> parent -> factor, as `contributions` returns it.
        names: parent -> what to call it.
        title: of the figure.

    Returns:
        The figure, or None where there is nothing to show.
    """
    parents = list(dict.fromkeys(parent for row in shares.values() for parent in row))[:MAX_PARENTS]
    if not parents:
        return None
    largest = max((abs(value) for row in shares.values() for value in row.values()), default=0.0) or 1.0
    row = max(MIN_ROW, min(MAX_ROW, MAX_HEIGHT / len(shares)))
    width = (460 - LABEL_WIDTH) / len(parents)
    drawing = Drawing(
        row * len(shares) + 44,
        title=title,
        description=f"{len(shares)} blocks by {len(parents)} parents; the largest factor is {largest:.3f}. A factor "
        "multiplies a parent, or its task vector where the method has a base.",
    )
    for column, parent in enumerate(parents):
        center = LABEL_WIDTH + width * (column + 0.5)
        name = clipped(names.get(parent, parent), width - 4, strong=True)
        drawing.text(center, 14, name, css="strong", anchor="middle")
    for number, (label, factors) in enumerate(shares.items()):
        y = 22 + row * number
        drawing.text(LABEL_WIDTH - 8, y + row * 0.5 + 4, _label(label), css="soft small", anchor="end")
        for column, parent in enumerate(parents):
            if parent not in factors:
                continue
            x, value = LABEL_WIDTH + width * column, factors[parent]
            drawing.rect(x + 1, y + 0.5, width - 2, row - 1, "cell", opacity=DARKEST * abs(value) / largest)
            said = f"{round(value, 2) + 0.0:.2f}"
            drawing.text(x + width / 2, y + row * 0.5 + 4, said, css="small", anchor="middle")
    return drawing


def _label(block: str) -> str:
    return "outside blocks" if not block.startswith("layer ") else block
