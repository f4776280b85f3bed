"""Runs beside each other: those of a folder, and two in detail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from evomerge.errors import EvomergeError, InvalidInput, first_line
from evomerge.records import POOLS
from evomerge.results._headline import headline
from evomerge.results._tables import format_duration, printable
from evomerge.run import LEDGER, Run, RunComparison, RunFacts, displayed_score

MAX_DEPTH = 3  # of folders below the one that is listed


class ListedRun(NamedTuple):
    """A run folder, and its run as far as it can be read.

    Attributes:
        path: the run folder.
        facts: None for a damaged ledger.
        problem: why it cannot be read, or "".
    """

    path: Path
    facts: RunFacts | None
    problem: str


def runs_in(folder: Path) -> list[ListedRun]:
    """Return the runs in a folder and in those below it, by path; one that is damaged is listed with its problem.

    Raises:
        InvalidInput: there is none.
    """
    found = []
    for path in sorted(_run_folders(folder, MAX_DEPTH)):
        try:
            found.append(ListedRun(path, RunFacts(Run(path)), ""))
        except EvomergeError as error:
            found.append(ListedRun(path, None, first_line(error)))
    if not found:
        raise InvalidInput(f"{folder}: there is no run in it (no {LEDGER} in it or up to {MAX_DEPTH} folders below)")
    return found


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / LEDGER).is_file():
        yield folder
    elif depth:
        try:
            inner = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        except OSError:
            return
        for path in inner:
            yield from _run_folders(path, depth - 1)


def run_rows(runs: list[ListedRun]) -> list[dict[str, Any]]:
    """Return listed runs as plain data."""
    return [
        {"run": str(run.path), "problem": run.problem} if run.facts is None else _row(run.path, run.facts)
        for run in runs
    ]


def _row(path: Path, facts: RunFacts) -> dict[str, Any]:
    verdict, pick = facts.verdict, facts.pick
    return {
        "run": str(path),
        "state": facts.run.state,
        "outcome": headline(facts).outcome,
        "objectives": [objective.name for objective in facts.objectives],
        "optimizer": facts.run.fact("optimizer"),
        "candidates": len(facts.searched),
        "pick": None if pick is None else pick.id,
        "report": None if pick is None else facts.mean(pick, "report"),
        "gain": None if verdict is None else verdict["gain"],
        "interval": None if verdict is None else verdict["interval"],
        "claimed": verdict is not None and verdict["claimed"],
        "seconds": float(facts.run.fact("seconds", 0.0)),
    }


def runs_table(runs: list[ListedRun], folder: Path) -> Table:
    """Return a row for each run that can be read."""
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("run", "state", "objectives", "candidates", "pick", "report", "gain", "time"):
        right = head in ("candidates", "report", "time")
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for run in runs:
        if run.facts is None:
            continue
        name = str(run.path.relative_to(folder)) if run.path != folder else str(run.path)
        row, facts = _row(run.path, run.facts), run.facts
        table.add_row(
            Text(name),
            row["state"],
            Text(printable(", ".join(row["objectives"]))),
            f"{row['candidates']:,}",
            Text("-" if facts.pick is None else printable(facts.pick.name)),
            "-" if row["report"] is None else f"{row['report']:.4f}",
            _gain(facts),
            format_duration(row["seconds"]),
        )
    return table


def problem_lines(runs: list[ListedRun]) -> list[str]:
    """Return a line for each run that cannot be read."""
    return [printable(run.problem) for run in runs if run.facts is None]


def _gain(facts: RunFacts) -> str:
    verdict, said = facts.verdict, headline(facts)
    if verdict is None or verdict["interval"] is None:
        return f"{said.symbol} {said.outcome}"
    low, high = verdict["interval"]
    return f"{said.symbol} {said.outcome} {verdict['gain']:+.4f} ({low:+.4f} to {high:+.4f})"


def comparison_document(found: RunComparison) -> dict[str, Any]:
    """Return two runs beside each other as plain data."""
    gain = found.gain
    paired = None if gain is None else {"gain": gain.gain, "interval": [gain.low, gain.high], "level": gain.level}
    return {
        "runs": [{**_row(facts.run.path, facts), "scores": _scores(facts)} for facts in (found.first, found.second)],
        "gain_of_second": paired,
        "not_paired_because": found.reason or None,
    }


def _scores(facts: RunFacts) -> dict[str, dict[str, Any]]:
    """Return the pick's scores: pool -> objective -> score in the metric's own units."""
    if facts.pick is None:
        return {}
    scores = facts.pick.scores
    return {
        pool: {o.name: displayed_score(o, scores[pool][o.name]) for o in facts.objectives if o.name in scores[pool]}
        for pool in POOLS
        if pool in scores
    }


def comparison_table(found: RunComparison) -> Table:
    """Return two runs as two columns: what they are, and what their picks score."""
    first, second = found.first, found.second
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("", str(first.run.path), str(second.run.path)):
        table.add_column(head, overflow="fold")
    for name, values in _compared(first, second):
        table.add_row(name, *(Text(printable(value)) for value in values))
    return table


def _compared(first: RunFacts, second: RunFacts) -> Iterator[tuple[str, list[str]]]:
    both = (first, second)
    yield "verdict", [headline(facts).text for facts in both]
    yield "pick", ["-" if facts.pick is None else f"{facts.pick.name} (id {facts.pick.id})" for facts in both]
    yield "optimizer", [str(facts.run.fact("optimizer", "-")) for facts in both]
    yield "candidates", [f"{len(facts.searched):,}" for facts in both]
    yield "time", [format_duration(float(facts.run.fact("seconds", 0.0))) for facts in both]
    scores = [_scores(facts) for facts in both]
    names = dict.fromkeys(objective.name for facts in both for objective in facts.objectives)
    for pool in POOLS:
        for name in names:
            cells = [_cell(found.get(pool, {}).get(name)) for found in scores]
            if any(cell != "-" for cell in cells):
                yield f"{name}, {pool}", cells


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    return f"{score['value']:.4f}" + ("" if score["stderr"] is None else f" ± {score['stderr']:.4f}")
