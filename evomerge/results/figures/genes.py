"""Genes: which of them matter, and where the proposals moved."""

from collections.abc import Sequence

from evomerge.results.figures._axes import Scale, number_text
from evomerge.results.figures._drawing import Drawing, clipped
from evomerge.run import GeneBand, GeneImportance, RunFacts, gene_bands

MAX_GENES = 12  # by importance
MAX_BANDS = 6  # of them, whose proposals are drawn
ROW = 20
STRONG, WEAK = 0.5, 0.15  # of rank correlations


def importance(genes: Sequence[GeneImportance]) -> Drawing | None:
    """Return the importance of genes as bars, with the direction in which they act; None without any.

    Args:
        genes: by descending importance.
    """
    if not genes or genes[0].share <= 0:
        return None
    drawn = genes[:MAX_GENES]
    drawing = Drawing(
        ROW * len(drawn) + 44,
        title="Genes that mattered most",
        description="Importance by PED-ANOVA, as a share of all genes': "
        + ", ".join(f"{gene.gene} {100 * gene.share:.0f}%" for gene in drawn[:4])
        + ".",
    )
    drawing.text(0, 12, "gene", css="soft")
    drawing.text(190, 12, "share of the importance", css="soft")
    drawing.text(460, 12, "more is", css="soft", anchor="end")
    x = Scale(0.0, drawn[0].share, 190, 350)
    for number, gene in enumerate(drawn):
        y = 20 + ROW * number
        drawing.text(0, y + 14, clipped(_short(gene.gene), 182))
        drawing.rect(190, y + 4, x(gene.share) - 190, ROW - 8, "bar")
        drawing.text(x(gene.share) + 5, y + 14, f"{100 * gene.share:.0f}%", css="small")
        drawing.text(460, y + 14, _trend(gene), css="small", anchor="end")
    rest = sum(gene.share for gene in genes[len(drawn) :])
    if rest > 0:
        said = f"the other {len(genes) - len(drawn)} genes together: {100 * rest:.0f}%"
        drawing.text(0, ROW * len(drawn) + 38, said, css="soft small")
    return drawing


def _trend(gene: GeneImportance) -> str:
    if abs(gene.trend) < WEAK:
        return "neither"
    word, arrow = ("better", "▲") if gene.trend > 0 else ("worse", "▼")
    return f"{word} {arrow * (2 if abs(gene.trend) >= STRONG else 1)}"


def movement(facts: RunFacts, genes: Sequence[GeneImportance]) -> Drawing | None:
    """Return where the proposals of the most important genes were, from the first to the last candidate.

    Args:
        facts: of the run.
        genes: by descending importance.
    """
    chosen = [gene.position for gene in genes if gene.share > 0][:MAX_BANDS]
    bands = gene_bands(facts, chosen)
    if not bands:
        return None
    height, rows = 116.0, (len(bands) + 1) // 2
    drawing = Drawing(
        height * rows + 34,
        title="How the proposals moved",
        description="Median, 10% and 90% quantile of the proposals over the course of the search. "
        + " ".join(f"{band.gene}: from {band.bands[0][2]:.3f} to {band.bands[-1][2]:.3f}." for band in bands[:4]),
    )
    for number, band in enumerate(bands):
        _band(drawing, band, 34 + 232 * (number % 2), height * (number // 2))
    last = height * rows + 8
    drawing.rect(0, last, 14, 10, "band")
    drawing.text(20, last + 10, "10% to 90% of the proposals", css="soft small")
    drawing.line(196, last + 5, 214, last + 5, "curve")
    drawing.text(220, last + 10, "their median", css="soft small")
    drawing.line(308, last + 5, 326, last + 5, "second")
    drawing.text(332, last + 10, "the pick's value", css="soft small")
    return drawing


def _band(drawing: Drawing, band: GeneBand, left: float, top: float) -> None:
    """Draw one gene's small plot."""
    candidates: Sequence[int] = [entry[0] for entry in band.bands]
    values = [value for _, *quantiles in band.bands for value in quantiles]
    values += [] if band.pick is None else [band.pick]
    low, high = min(band.low, *values), max(band.high, *values)
    x = Scale(float(candidates[0]), float(max(candidates[-1], candidates[0] + 1)), left, left + 190)
    y = Scale(low, high if high > low else low + 1.0, top + 88, top + 20)
    drawing.text(left, top + 12, clipped(_short(band.gene), 190, strong=True), css="strong small")
    for value in (y.low, y.high):
        drawing.line(x.start, y(value), x.end, y(value), "grid")
        drawing.text(x.start - 4, y(value) + 4, number_text(value, 0.1), css="soft small", anchor="end")
    upper = [(x(c), y(q90)) for c, _, _, q90 in band.bands]
    drawing.area(upper, [(x(c), y(q10)) for c, q10, _, _ in band.bands], "band")
    drawing.path([(x(c), y(q50)) for c, _, q50, _ in band.bands], "curve")
    if band.pick is not None:
        drawing.line(x.start, y(band.pick), x.end, y(band.pick), "second")
    drawing.text(x.start, top + 102, f"#{candidates[0]}", css="soft small")
    drawing.text(x.end, top + 102, f"candidate #{candidates[-1]}", css="soft small", anchor="end")


def _short(gene: str) -> str:
    """Return a gene's name with the last part of each path in it."""
    return " ".join(word.rstrip("/").rpartition("/")[2] or word for word in gene.split(" "))
