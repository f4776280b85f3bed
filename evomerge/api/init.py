"""`evomerge.init`: write a search file to start from."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.errors import InvalidInput
from evomerge.run import SearchOutline, check_search, search_template


def init(
    out: Path | str,
    models: Sequence[Path | str],
    tasks: Sequence[str],
    *,
    base: Path | str | None = None,
    task_path: Path | str | None = None,
    space: str | None = None,
    hours: float | None = None,
    candidates: int | None = None,
    workers: int = 2,
    gpus: float = 0.0,
    check: bool = True,
) -> Path:
    """Write a commented search file, and check it as `evomerge check` does.

    Args:
        out: the file; it must not exist.
        models: what is merged, folders or hub ids.
        tasks: lm-eval tasks, "task" or "task/metric"; each is an objective.
        base: the common ancestor of the models, or None.
        task_path: a folder of further task YAMLs.
        space: a shipped space, or a file; None = "auto" if there is a base, else weights by model and block.
        hours: of the budget.
        candidates: of the budget.
        workers: worker processes; 0 = in this one.
        gpus: of each worker.
        check: whether parents, tasks and space are looked at.

    Returns:
        The file.

    Raises:
        InvalidInput: `out` exists or cannot be written, or there are no models or tasks.
        InvalidFile: the file was written, and these are its problems.
    """
    path = Path(out)
    if not models or not tasks:
        raise InvalidInput("a search needs at least one model and one task; name them with --models and --tasks")
    if path.exists():
        raise InvalidInput(f"{path}: exists already; name another file")
    outline = SearchOutline(
        base=None if base is None else str(base),
        models=[str(model) for model in models],
        tasks=tasks,
        task_path=None if task_path is None else str(task_path),
        space=space,
        hours=hours,
        candidates=candidates,
        workers=workers,
        gpus=gpus,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(search_template(outline, path.parent), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another file") from None
    if check:
        check_search(path)
    return path
