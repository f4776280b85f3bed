"""Tables and lines for a terminal: results, and where a run stands."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from evomerge.records import POOLS, Candidate, Objective, Pool
from evomerge.run import Run, Summary, displayed_score

_HEADS: dict[Pool, str] = {"search": "search", "select": "select", "report": "report (unseen)"}


def results_table(run: Run, *, everything: bool = False) -> Table:
    """Return candidates by descending mean of the last pool they share, with every objective's score on it.

    Args:
        run: a run, finished or not.
        everything: list all candidates; otherwise the front, the finalists and the references.
    """
    objectives = run.objectives
    pick, front = run.pick, {candidate.id for candidate in run.front}
    listed = run.listed(everything=everything)
    claimed = {member["id"] for member in (run.verdict or {}).get("front", []) if member["claimed"]}
    pool = _latest_pool(listed)
    table = _empty_table(objectives, pool)
    for candidate in sorted(listed, key=lambda c: _order(run, c)):
        marks = ["pick"] if pick is not None and candidate.id == pick.id else []
        marks += ["front"] if candidate.id in front else []
        marks += ["gain"] if candidate.id in claimed else []
        name = printable(candidate.name) + (f"  [{', '.join(marks)}]" if marks else "")
        cells = [_score(candidate, pool, objective) for objective in objectives]
        means = [_mean(run, candidate, other) for other in POOLS]
        table.add_row(str(candidate.id), Text(name), *cells, *means, style="bold" if "pick" in marks else "")
    return table


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


def _empty_table(objectives: Sequence[Objective], pool: Pool) -> Table:
    title = f"scores on the {pool} pool ± standard error; means of the other pools"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("id", justify="right")
    table.add_column("what", overflow="fold")
    for objective in objectives:
        table.add_column(printable(objective.name), justify="right")
    for other in POOLS:
        table.add_column(f"{_HEADS[other]} mean", justify="right")
    return table


def _latest_pool(candidates: Sequence[Candidate]) -> Pool:
    """Return the last pool that more than the pick was scored on."""
    for pool in reversed(POOLS[1:]):
        if sum(pool in candidate.scores for candidate in candidates) > 1:
            return pool
    return POOLS[0]


def _order(run: Run, candidate: Candidate) -> tuple[float, ...]:
    means = [run.mean_score(candidate, pool) for pool in reversed(POOLS)]
    return (*(float("inf") if mean is None else -mean for mean in means), candidate.id)


def _score(candidate: Candidate, pool: Pool, objective: Objective) -> str:
    score = candidate.scores.get(pool, {}).get(objective.name)
    if score is None:
        return candidate.failure.kind if candidate.failure else "-"
    displayed = displayed_score(objective, score)
    value, stderr = displayed["value"], displayed["stderr"]
    return f"{value:.3f}" if stderr is None else f"{value:.3f} ±{stderr:.3f}"


def _mean(run: Run, candidate: Candidate, pool: Pool) -> str:
    mean = run.mean_score(candidate, pool)
    return "-" if mean is None else f"{mean:.3f}"
