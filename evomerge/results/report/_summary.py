"""The report in a few lines of a terminal."""

from evomerge.results._headline import headline
from evomerge.results._tables import floor_lines, format_duration, printable
from evomerge.run import RunFacts, course, gene_importance, items_scored, outcomes

BARS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 40
MAX_GENES = 4


def summary_lines(facts: RunFacts) -> list[str]:
    """Return what came of a run, how it went, what mattered, what was won and lost, and what it cost."""
    said, verdict = headline(facts), facts.verdict
    lines = [f"{said.symbol} {said.text}"]
    if verdict is not None:
        lines += [printable(verdict["text"]), *floor_lines(verdict)]
    if facts.pick is not None:
        lines.append(f"pick      {printable(facts.pick.name)} (id {facts.pick.id})")
    best = [point.best for point in course(facts) if point.best is not None]
    if best:
        lines.append(f"best      {best[0]:.3f} {sparkline(best)} {best[-1]:.3f} (adjusted search score, by candidate)")
    genes = [gene for gene in gene_importance(facts) if gene.share > 0][:MAX_GENES]
    if genes:
        listed = ", ".join(f"{printable(gene.gene)} {100 * gene.share:.0f}%" for gene in genes)
        lines.append(f"genes     {listed}")
    found = outcomes(facts)
    if found is not None:
        listed = ", ".join(f"{printable(o.objective)} {o.won} won {o.lost} lost" for o in found.objectives)
        against = f"{printable(found.first.name)} against {printable(found.other.name)}"
        lines.append(f"items     {listed} ({against}, {found.pool} items)")
    failed = sum(candidate.failure is not None for candidate in facts.candidates)
    items = sum(items_scored(facts.candidates).values())
    spent = format_duration(float(facts.run.fact("seconds", 0.0)))
    lines.append(f"cost      {len(facts.searched):,} candidates, {items:,} items, {spent}, {failed} failed")
    return lines


def sparkline(values: list[float]) -> str:
    """Return a curve of block characters."""
    count = min(SPARK_WIDTH, len(values))
    picked = [values[round(i * (len(values) - 1) / max(1, count - 1))] for i in range(count)]
    low, high = min(picked), max(picked)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in picked)
