"""Lines for a terminal: where a run stands, and what it has cost."""

from collections.abc import Mapping
from typing import Any

from evomerge.run import Run, Summary


def status_lines(run: Run, summary: Summary, *, price: float | None = None) -> list[str]:
    """Return where a run stands, in a few lines.

    Args:
        run: the run.
        summary: `run.summary()`.
        price: of an hour of all its machines together, in any currency; None = money is not mentioned.
    """
    planned = summary.budget.get("candidates")
    of = f" of {planned}" if planned else ""
    working = f"{summary.owner} is working on it" if summary.owner else "nobody is working on it"
    spent = format_duration(summary.seconds)
    lines = [
        f"run {run.path}: {summary.state}; {working}",
        f"candidates {summary.finished}{of} finished, {spent} spent, front {summary.front}",
    ]
    lines.append(f"cost: {cost_text(run, price)}")
    if levels := run.fact("levels", []):
        number, name = levels[-1]
        lines.append(f"level {len(levels)}: {name}, since the optimizer's proposal {number}")
    if summary.best is not None:
        low, high = summary.best_interval or (summary.best[1], summary.best[1])
        interval = f"(95% {low:.3f} to {high:.3f}; adjusted for item difficulty)"
        lines.append(f"best so far: candidate {summary.best[0]} with {summary.best[1]:.3f} {interval}")
    if summary.busy is not None:
        lines.append(f"workers were busy with candidates {100 * summary.busy:.0f}% of the search's time")
    if summary.failures:
        lines.append("failed: " + ", ".join(f"{kind} {count}" for kind, count in summary.failures.items()))
    lines += [f"note: {printable(note)}" for note in run.notes]
    if summary.state == "done" and run.verdict is not None:
        lines.append(str(run.verdict["text"]))
        lines += floor_lines(run.verdict)
    return lines


def cost_text(run: Run, price: float | None = None) -> str:
    """Return what a run has cost, as a list in words.

    Args:
        run: the run.
        price: of an hour of all its machines together, in any currency; None = money is not mentioned.
    """
    cost = run.cost(price)
    parts = [f"{count:,} {pool} items" for pool, count in cost["items"].items()]
    if cost["tokens"]:
        parts.append(f"{cost['tokens']:,} tokens")
    if cost["worker_seconds"] is not None:
        parts.append(f"{format_duration(cost['worker_seconds'])} of workers")
    parts.append(format_duration(cost["seconds"]))
    if price is not None:
        parts.append(f"{cost['money']:.2f} at {price:g} an hour")
    return ", ".join(parts)


def floor_lines(verdict: Mapping[str, Any] | None) -> list[str]:
    """Return how the pick stands to each floor on the report pool, a line each; none for runs of older versions."""
    lines = []
    for floor in (verdict or {}).get("floors", []):
        low, high = floor["interval"]
        lines.append(
            f"floor of {printable(floor['objective'])}: {floor['floor']:.4f}, "
            f"{'met' if floor['met'] else 'missed'} with {floor['value']:.4f} (95% {low:.4f} to {high:.4f}) on report"
        )
    return lines


def format_duration(seconds: float) -> str:
    """Return a length of time with units, such as "2 min 5 s"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def printable(text: str) -> str:
    """Return foreign text without control characters, so that a model's name cannot move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
