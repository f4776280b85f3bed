"""A run's results as rows: a table for a terminal, and comma-separated values for other programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.records import POOLS, Candidate, Pool, Score
from evomerge.results._tables import printable
from evomerge.run import Run, displayed_score, displayed_value

ADJUSTED = "adjusted"
_HEADS: dict[str, str] = {
    "search": "search mean",
    ADJUSTED: "adjusted",
    "select": "select mean",
    "report": "report (unseen) mean",
}
_COLUMNS = ("id", "what", *_HEADS)
TITLE = (
    "scores ± standard error on the last pool of each; means: search = raw, on a candidate's own items, adjusted = "
    "expected on the whole search pool, less a penalty for missed floors"
)


class ResultRow(NamedTuple):
    """One line of the results.

    Attributes:
        candidate: with its scores.
        marks: "pick", "front", "gain".
        pool: the last one that it was scored on, or None.
        missed: objectives whose floor it misses there.
        means: "search", "adjusted", "select", "report" -> weighted mean of the objectives, as far as it is known.
    """

    candidate: Candidate
    marks: tuple[str, ...]
    pool: Pool | None
    missed: frozenset[str]
    means: Mapping[str, float]


def result_rows(run: Run, *, everything: bool = False, sort: str | None = None) -> list[ResultRow]:
    """Return what is listed of a run.

    Args:
        run: a run, finished or not.
        everything: all candidates; otherwise the front, the finalists and the references.
        sort: "id", "what", an objective, "search", "adjusted", "select" or "report", best first; None = by the mean of
            the last pool. Rows of a later pool come first where an objective is sorted by.

    Raises:
        InvalidInput: there is no such column.
    """
    pick, front = run.pick, {candidate.id for candidate in run.front}
    claimed = {member["id"] for member in (run.verdict or {}).get("front", []) if member["claimed"]}
    adjusted = run.ranking()
    floors = {pool: run.floors(pool) for pool in POOLS}
    rows = []
    for candidate in run.listed(everything=everything):
        marks = ["pick"] if pick is not None and candidate.id == pick.id else []
        marks += ["front"] if candidate.id in front else []
        marks += ["gain"] if candidate.id in claimed else []
        pool = next((pool for pool in reversed(POOLS) if pool in candidate.scores), None)
        scores = candidate.scores[pool] if pool else {}
        missed = [name for name, floor in floors[pool].items() if scores[name].value < floor] if pool else []
        means: dict[str, float] = {
            pool: mean for pool in POOLS if (mean := run.mean_score(candidate, pool)) is not None
        }
        if candidate.id in adjusted.values:
            means[ADJUSTED] = adjusted.fitness(candidate.id)
        rows.append(ResultRow(candidate, tuple(marks), pool, frozenset(missed), means))
    return sorted(rows, key=lambda row: _key(run, row, sort))


def _key(run: Run, row: ResultRow, sort: str | None) -> tuple[Any, ...]:
    candidate = row.candidate
    if sort == "id":
        return (candidate.id,)
    if sort == "what":
        return (candidate.name, candidate.id)
    if sort in _HEADS:
        return (_descending(row.means.get(sort)), candidate.id)
    if sort is None:
        return (*(_descending(row.means.get(pool)) for pool in reversed(POOLS)), candidate.id)
    names = [objective.name for objective in run.objectives]
    if sort not in names:
        known = [*_COLUMNS, *names]
        raise InvalidInput(f'--sort: there is no column "{sort}" ({", ".join(known)}).{did_you_mean(sort, known)}')
    score = candidate.scores[row.pool][sort] if row.pool else None
    return (-POOLS.index(row.pool) if row.pool else 1, _descending(score.value if score else None), candidate.id)


def _descending(value: float | None) -> float:
    return float("inf") if value is None else -value


def results_table(run: Run, *, everything: bool = False, sort: str | None = None) -> Table:
    """Return candidates as a table: every objective's score on the last pool of each, and the means of all pools.

    Args: as of `result_rows`.
    """
    objectives = run.objectives
    table = Table(box=box.SIMPLE_HEAD, title=TITLE, title_justify="left")
    table.add_column("id", justify="right")
    table.add_column("what", overflow="fold")
    table.add_column("pool")
    for head in (*(printable(objective.name) for objective in objectives), *_HEADS.values()):
        table.add_column(head, justify="right")
    for row in result_rows(run, everything=everything, sort=sort):
        candidate = row.candidate
        name = printable(candidate.name) + (f"  [{', '.join(row.marks)}]" if row.marks else "")
        cells = [_cell(run, row, index) for index in range(len(objectives))]
        means = [f"{row.means[key]:.3f}" if key in row.means else "-" for key in _HEADS]
        style = "bold" if "pick" in row.marks else ""
        table.add_row(str(candidate.id), Text(name), row.pool or "-", *cells, *means, style=style)
    return table


def _cell(run: Run, row: ResultRow, index: int) -> str:
    """Return a score with its standard error; one below its floor has a mark."""
    objective, candidate = run.objectives[index], row.candidate
    if row.pool is None:
        return candidate.failure.kind if candidate.failure else candidate.state
    displayed = displayed_score(objective, candidate.scores[row.pool][objective.name])
    stderr = "" if displayed["stderr"] is None else f" ±{displayed['stderr']:.3f}"
    value = f"{displayed['value']:g}" if objective.exact else f"{displayed['value']:.3f}"
    return f"{'! ' if objective.name in row.missed else ''}{value}{stderr}"


def missed_floor_lines(run: Run, rows: Sequence[ResultRow]) -> list[str]:
    """Return what the mark of a score below its floor means, if there is one among some rows."""
    missed = {name for row in rows for name in row.missed}
    pools = {row.pool for row in rows if row.pool}
    lines = []
    for objective in run.objectives:
        floors = {
            f"{displayed_value(objective, floor):.4f}"
            for pool in POOLS
            if pool in pools and (floor := run.floors(pool).get(objective.name)) is not None
        }
        if objective.name in missed:
            lines.append(f"! misses the floor of {printable(objective.name)}: {' or '.join(sorted(floors))}")
    return lines


def knee_lines(run: Run) -> list[str]:
    """Return which of the front's members has the best balance, if there are several objectives and members."""
    knee = run.knee if len(run.objectives) > 1 and len(run.front) > 1 else None
    return [] if knee is None else [f"best balance on the front: {_named(knee)}"]


def preferred_line(run: Run, preferences: str) -> str:
    """Return which of the front's members is the best by other weights of the objectives.

    Args:
        run: the run.
        preferences: NAME=WEIGHT, several with commas; objectives left out keep the run's weights.

    Raises:
        InvalidInput: another form, no such objective, or nothing is scored yet.
    """
    weights = {}
    for part in preferences.split(","):
        name, equals, weight = part.strip().rpartition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InvalidInput(f'"{part.strip()}" is no preference; write an objective and its weight: NAME=WEIGHT')
    best = run.preferred(weights)
    if best is None:
        raise InvalidInput(f"{run.path}: nothing is scored yet ({run.state})")
    return f"with {preferences}: {_named(best)}; evomerge export {run.path} OUT --id {best.id}"


def _named(candidate: Candidate) -> str:
    return f"{candidate.id}, {printable(candidate.name)}" if candidate.name else str(candidate.id)


def results_csv(run: Run, *, everything: bool = False, sort: str | None = None) -> str:
    """Return candidates as comma-separated values: every objective's score on every pool, and the means.

    Args: as of `result_rows`.
    """
    names = [objective.name for objective in run.objectives]
    heads = ["id", "name", "kind", "state", "generation", "pick", "on_front"]
    heads += [f"{pool} {name}{part}" for pool in POOLS for name in names for part in ("", " stderr", " n")]
    heads += [f"{key} mean" for key in _HEADS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in result_rows(run, everything=everything, sort=sort):
        candidate = row.candidate
        about = [candidate.id, candidate.name, candidate.kind, candidate.state, candidate.generation]
        cells = [cell for pool in POOLS for cell in _scores(run, candidate.scores.get(pool, {}))]
        marks = ["pick" in row.marks, "front" in row.marks]
        writer.writerow([*about, *marks, *cells, *(row.means.get(key, "") for key in _HEADS)])
    return text.getvalue()


def _scores(run: Run, scores: Mapping[str, Score]) -> list[Any]:
    found = []
    for objective in run.objectives:
        score = scores.get(objective.name)
        displayed = {} if score is None else displayed_score(objective, score)
        found += ["" if displayed.get(key) is None else displayed[key] for key in ("value", "stderr", "n")]
    return found
