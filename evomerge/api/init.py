"""`evomerge.init`: write a search file to start from."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from evomerge.checkpoint import open_model
from evomerge.errors import InvalidInput
from evomerge.recipe import ModelRef, read_yaml
from evomerge.run import ModelFacts, SearchOutline, check_search, search_template, translate_genome


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
    path = _new_file(out)
    if not models or not tasks:
        raise InvalidInput("a search needs at least one model and one task; name them with --models and --tasks")
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
    _write(path, search_template(outline, path.parent))
    if check:
        check_search(path)
    return path


def init_from_genome(out: Path | str, genome: Path | str, *, check: bool = True) -> list[str]:
    """Write the search file that a mergekit-evolve file describes, and check it as `evomerge check` does.

    Args:
        out: the file; it must not exist.
        genome: a mergekit-evolve file.
        check: whether parents, tasks and space are looked at.

    Returns:
        What could not be carried over, or is not the same, one sentence each; the file has them as comments.

    Raises:
        InvalidInput: `out` exists or cannot be written, or a model cannot be opened.
        InvalidFile: the genome's problems; or the file was written, and these are its problems.
    """
    path, source = _new_file(out), Path(genome)

    def facts(name: str) -> ModelFacts:
        model = open_model(ModelRef.parse(name), Path.cwd())
        return ModelFacts(model.summary(digest=False).num_layers, _has_chat_template(model.folder))

    found = translate_genome(read_yaml(source), str(source), path.parent, facts)
    lines = [f"# From {source.name}, a file of mergekit-evolve. docs/search_file.md lists every key."]
    lines += [
        line
        for note in found.notes
        for line in textwrap.wrap(note, 116, initial_indent="# - ", subsequent_indent="#   ")
    ]
    text = yaml.safe_dump(found.search, sort_keys=False, default_flow_style=None, width=116, allow_unicode=True)
    _write(path, "\n".join([*lines, text]))
    if check:
        check_search(path)
    return found.notes


def _new_file(out: Path | str) -> Path:
    """Return the path of a file that is to be written. Raises InvalidInput if it exists."""
    path = Path(out)
    if path.exists():
        raise InvalidInput(f"{path}: exists already; name another file")
    return path


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written ({error.strerror}); name another file") from None


def _has_chat_template(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    stated = config.is_file() and '"chat_template"' in config.read_text(encoding="utf-8", errors="replace")
    return stated or (folder / "chat_template.jinja").is_file()
