"""Tables for a terminal: results, and where a run stands."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evomerge.records import Candidate, Objective, Pool
from evomerge.run import Run, Summary, shown

_HEADS: dict[Pool, str] = {"search": "search", "select": "select", "report": "report (unseen)"}


def results_table(run: Run, *, everything: bool = False) -> Table:
    """Return candidates by falling mean of the last pool they share, with every objective's score on it."""
    objectives = run.objectives
    pick, front = run.pick, {each.id for each in run.front}
    listed = [
        each
        for each in run.candidates()
        if everything or each.kind != "candidate" or each.id in front or each.id in run.finalists
    ]
    pool = _latest_pool(listed)
    table = Table(
        box=box.SIMPLE_HEAD, title=f"scores on the {pool} pool; means of the other pools", title_justify="left"
    )
    table.add_column("id", justify="right")
    table.add_column("what", overflow="fold")
    for objective in objectives:
        table.add_column(plain(objective.name), justify="right")
    for each in ("search", "select", "report"):
        table.add_column(_HEADS[each] + " mean", justify="right")
    for candidate in sorted(listed, key=lambda c: _order(run, c)):
        marks = ["pick"] if pick is not None and candidate.id == pick.id else []
        marks += ["front"] if candidate.id in front else []
        name = plain(candidate.name) + (f"  [{', '.join(marks)}]" if marks else "")
        cells = [_score(candidate, pool, objective) for objective in objectives]
        means = [_mean(run, candidate, each) for each in ("search", "select", "report")]
        style = "bold" if "pick" in marks else ""
        table.add_row(str(candidate.id), Text(name), *cells, *means, style=style)
    return table


def _latest_pool(candidates: Sequence[Candidate]) -> Pool:
    """Return the last pool that more than the pick was scored on."""
    for pool in ("report", "select"):
        if sum(pool in each.scores for each in candidates) > 1:
            return pool
    return "search"


def _order(run: Run, candidate: Candidate) -> tuple[float, ...]:
    means = [run.mean_score(candidate, pool) for pool in ("report", "select", "search")]
    return (*(float("inf") if mean is None else -mean for mean in means), candidate.id)


def _score(candidate: Candidate, pool: Pool, objective: Objective) -> str:
    score = candidate.scores.get(pool, {}).get(objective.name)
    if score is None:
        return candidate.failure.kind if candidate.failure else "-"
    found = shown(objective, score)
    return f"{found['value']:.3f} ±{found['stderr']:.3f}" if found["stderr"] is not None else f"{found['value']:.3f}"


def _mean(run: Run, candidate: Candidate, pool: Pool) -> str:
    mean = run.mean_score(candidate, pool)
    return "-" if mean is None else f"{mean:.3f}"


def status_lines(run: Run, summary: Summary) -> list[str]:
    """Return where a run stands, in a few lines."""
    planned = summary.budget.get("candidates")
    of = f" of {planned}" if planned else ""
    working = f"{summary.owner} is working on it" if summary.owner else "nobody is working on it"
    lines = [f"run {run.path}: {summary.state}; {working}"]
    lines.append(
        f"candidates {summary.finished}{of} finished, {duration(summary.seconds)} spent, front {summary.front}"
    )
    if summary.best is not None:
        lines.append(
            f"best so far: candidate {summary.best[0]} with {summary.best[1]:.3f} (adjusted for item difficulty)"
        )
    if summary.busy is not None:
        lines.append(f"workers were busy with candidates {100 * summary.busy:.0f}% of the search's time")
    if summary.failures:
        lines.append("failed: " + ", ".join(f"{kind} {count}" for kind, count in summary.failures.items()))
    if summary.state == "done" and run.verdict is not None:
        lines.append(str(run.verdict["text"]))
    return lines


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(text: str) -> str:
    """Return foreign text without control characters, so that a model's name cannot move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
