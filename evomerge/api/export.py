"""`evomerge.export`: write a candidate of a run."""

from collections.abc import Sequence
from pathlib import Path

from evomerge import results
from evomerge.engine import ProgressCallback
from evomerge.run import Run


def export(
    run: Run | Path | str,
    out: Path | str,
    *,
    candidate_id: int | None = None,
    formats: Sequence[str] = ("hf",),
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Write a candidate of a run into a folder that does not exist yet.

    Args:
        run: a run, or its folder.
        out: the folder to make.
        candidate_id: which one; None = the run's pick, also where `run.verdict["keep"]` names a reference that is
            the better one to use.
        formats: any of "hf" (a model folder with its card), "recipe" (recipe.yaml), "mergekit" (mergekit.yaml),
            "lm_eval" (results.json, its scores in lm-eval's form) and "optuna" (optuna.journal, the run as a study).
        progress: called with bytes written and bytes in all.

    Returns:
        The files and folders made.

    Raises:
        InvalidInput: unknown format, no such candidate, no pick yet, a parent that changed since, or `out` exists.
    """
    opened = run if isinstance(run, Run) else Run(run)
    return results.export(opened, Path(out), candidate_id=candidate_id, formats=formats, progress=progress)
