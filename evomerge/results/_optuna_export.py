"""A run as an Optuna study in a file, for optuna-dashboard and for whoever analyzes studies."""

from dataclasses import replace
from pathlib import Path

from evomerge.records import Candidate, Domain, Score
from evomerge.run import Run, RunFacts, gene_range, trackers

FILE = "optuna.journal"


def write_study(run: Run, folder: Path) -> Path:
    """Write a run's candidates and references as two studies of one journal file, as the tracker `optuna` does.

    Search scores are the ones adjusted for item difficulty, so that candidates of different subsets compare; weights
    and densities are in their own units.

    Args:
        run: finished or not.
        folder: of the file; it must exist.

    Returns:
        The file.
    """
    facts = RunFacts(run)
    names = tuple(str(name) for name in run.fact("coordinates", []))
    ranges = {name: found for name in names if (found := gene_range(run, name)) is not None}
    path = folder / FILE
    tracker = trackers.create("optuna", {"storage": str(path), "ranges": ranges})
    search = run.fact("search", {})
    tracker.started(
        trackers.RunStarted(
            folder=run.path.resolve(),
            resumed=False,
            objectives=facts.objectives,
            optimizer=str(run.fact("optimizer", "")),
            seed=int(run.fact("identity", {}).get("seed", 0)),
            search=search,
            candidates_finished=0,
            coordinates=names,
            domain=_domain(facts),
        )
    )
    for candidate in facts.candidates:
        if candidate.state != "running":
            tracker.candidate_scored(_adjusted(facts, candidate), "search")
    pick = facts.pick
    seconds = float(run.fact("seconds", 0.0))
    state = "done" if run.state == "done" else "stopped"
    ended = trackers.RunEnded(state="done", seconds=seconds, pick=pick.id if pick else None, verdict=facts.verdict)
    tracker.ended(replace(ended, state=state))  # type: ignore[arg-type]
    return path


def _adjusted(facts: RunFacts, candidate: Candidate) -> Candidate:
    """Return a candidate with adjusted search scores; a mean, which was never searched, with its select scores."""
    values = facts.ranking.values.get(candidate.id)
    scores = candidate.scores.get("search", candidate.scores.get("select", {}))
    if values is not None:
        scores = {name: Score(value=values[name], stderr=score.stderr, n=score.n) for name, score in scores.items()}
    return replace(candidate, scores={**candidate.scores, "search": scores} if scores else {})


def _domain(facts: RunFacts) -> Domain:
    """Return what the coordinates may be, as far as the points that were tried tell."""
    points = [candidate.point for candidate in facts.candidates if candidate.point is not None]
    if not points:
        return Domain()
    integers = zip(*(point.integers for point in points), strict=True)
    categories = zip(*(point.categories for point in points), strict=True)
    return Domain(
        reals=len(points[0].reals),
        integers=tuple(1 + max(column) for column in integers),
        categories=tuple(1 + max(column) for column in categories),
    )
