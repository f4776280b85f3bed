"""Where a run stands, as its own driver would say it, from the ledger alone."""

from evomerge.records import Pool
from evomerge.run._progress import Phase, Progress
from evomerge.run._run import Run
from evomerge.run.analysis._facts import REFERENCE_KINDS

_PROOF: tuple[tuple[Phase, Pool], ...] = (("selecting", "select"), ("reporting", "report"))
MIN_FINISHED = 5  # candidates before the time that is left is estimated


def progress_of(run: Run) -> Progress:
    """Return a run's progress; what only its driver knows (workers that are up) is 0.

    Args:
        run: whose ledger another process may be writing.
    """
    summary = run.summary()
    candidates = run.candidates()
    references = [c for c in candidates if c.kind in REFERENCE_KINDS and not c.from_control]
    scored = sum(c.state != "running" for c in references)
    phase: Phase = "done" if summary.state == "done" else "searching"
    done, planned = summary.finished, summary.budget.get("candidates")
    if summary.state == "proving":
        phase, pool = _PROOF[run.pick is not None]
        finalists = set(run.finalists)
        expected = [c for c in references if c.state == "scored"] + [c for c in candidates if c.id in finalists]
        done, planned = (
            sum(pool in c.scores for c in candidates),
            len(expected) if pool == "select" else len(references) + 1,
        )
    return Progress(
        phase=phase,
        done=done,
        planned=planned,
        running=sum(c.state == "running" for c in candidates) if summary.owner and phase == "searching" else 0,
        workers=0,
        best=summary.best,
        best_interval=summary.best_interval,
        references=(scored, len(references)),
        front=summary.front,
        failures=summary.failures,
        seconds=summary.seconds,
        seconds_left=_left(summary.seconds, summary.finished, planned, summary.budget.get("hours"))
        if phase == "searching"
        else None,
    )


def _left(seconds: float, finished: int, planned: int | None, hours: float | None) -> float | None:
    """Return the seconds that the search's budget leaves, by the pace so far."""
    ends = [] if hours is None else [max(0.0, 3600 * hours - seconds)]
    if planned and finished >= MIN_FINISHED:
        ends.append(max(0.0, seconds / finished * (planned - finished)))
    return min(ends, default=None)
