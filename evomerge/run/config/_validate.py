"""Everything that can be known of a search before it runs: parents, space, tasks, optimizer; every problem at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.checkpoint import Model, Parents, open_model
from evomerge.engine import make_plan, output_tokenizer
from evomerge.errors import InvalidFile, InvalidInput, Problem
from evomerge.evaluation import (
    PoolSizes,
    Prepared,
    TaskRequest,
    prepare_tasks,
)
from evomerge.optimizers import resolve_auto, validate_options
from evomerge.recipe import (
    ModelRef,
    check_document,
    load_recipe,
    parse_recipe,
    read_yaml,
)
from evomerge.run._floors import relative_floors
from evomerge.run.config._findings import Findings
from evomerge.run.config._schema import (
    SearchEntry,
    TaskEntry,
    overridden,
    resolve,
)
from evomerge.run.config._setup import Setup
from evomerge.run.trackers import Tracker, create
from evomerge.space import (
    Reference,
    Space,
    build_space,
    read_space,
    references,
)


def inspect(path: Path, **overrides: Any) -> Setup:
    """Read and check a search file; `overrides` are the command line's hours, candidates, workers and seed.

    Raises:
        InvalidInput: the file cannot be read. InvalidFile: every problem at once. RefusedForSafety: a parent is unsafe.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InvalidInput(f"{path}: expected a mapping of keys to values")
    return inspect_data(overridden(data, **overrides), where=str(path), folder=path.resolve().parent)


def inspect_data(data: Mapping[str, Any], *, where: str, folder: Path) -> Setup:
    """Check a search file's plain data (see `inspect`)."""
    entry, problems = check_document(SearchEntry, data, where)
    findings = Findings(where, problems)
    if entry is None:
        raise InvalidFile(problems)
    opened = _open_parents(entry, folder, findings)
    base = opened.get(entry.parents.base) if entry.parents.base else None
    models = [opened[ref] for ref in entry.parents.models if ref in opened]
    same = _check_same_shape(opened, findings)
    read = findings.attempt("space", lambda: read_space(entry.space, folder, where))
    space = None
    if read is not None and len(opened) == len({entry.parents.base, *entry.parents.models} - {None}):
        summaries = [model.summary(digest=False) for model in models]
        base_summary = base.summary(digest=False) if base else None
        space = findings.attempt("space", lambda: build_space(*read, base_summary, summaries))
    prepared = _prepare(entry, folder, findings, [*([base] if base else []), *models])
    if space is not None:
        findings.problems += _optimizer_problems(entry, space, where)
    starts = [r for r in (_start_reference(text, folder, findings) for text in entry.start) if r is not None]
    floors = relative_floors(entry, prepared, findings)
    trackers = _trackers(entry, findings)
    commits = {ref.pin: model.commit for ref, model in opened.items() if model.commit}
    parents = Parents(list(opened), folder, commits) if same and space is not None else None
    refs = [entry.parents.base, *entry.parents.models]
    if space is not None and parents is not None and len(set(refs)) == len(refs):  # a repeat would be told twice
        _check_buildable(space, parents, starts, folder, findings)
    if findings.problems:
        if findings.unsafe is not None and len(findings.problems) == 1:
            raise findings.unsafe
        raise InvalidFile(findings.problems)
    assert space is not None and parents is not None and prepared is not None and read is not None
    name, options = _optimizer(entry, space)
    dtype = getattr(space, "dtype", None)
    fixed = references(base.name if base else None, [model.name for model in models], dtype)
    return Setup(
        where=where,
        folder=folder,
        data=dict(data),
        entry=entry,
        parents=parents,
        base=base.summary(digest=False) if base else None,
        models=tuple(model.summary(digest=False) for model in models),
        space=space,
        space_data=read[0],
        prepared=prepared,
        optimizer=name,
        optimizer_options=options,
        references=(*fixed, *starts),
        relative_floors=floors,
        notes=(*prepared.notes, *_notes(opened.values())),
        trackers=trackers,
    )


def _open_parents(entry: SearchEntry, folder: Path, findings: Findings) -> dict[ModelRef, Model]:
    refs = [("base", entry.parents.base)] if entry.parents.base else []
    refs += [(f"models.{i}", ref) for i, ref in enumerate(entry.parents.models)]
    opened: dict[ModelRef, Model] = {}
    for place, ref in refs:
        assert ref is not None
        if ref in opened:
            findings.add(f"parents.{place}", f"{ref} stands twice; name each parent once")
            continue
        model = findings.attempt(f"parents.{place}", lambda ref=ref: open_model(ref, folder))  # type: ignore[misc]
        if model is not None:
            opened[ref] = model
    return opened


def _check_same_shape(opened: Mapping[ModelRef, Model], findings: Findings) -> bool:
    """Note parents that cannot be merged with the first; a difference in size is one problem, not one per tensor."""
    models = list(opened.values())
    fits = True
    for model in models[1:]:
        first, other = models[0].summary(digest=False), model.summary(digest=False)
        for what in ("architecture", "hidden_size", "num_layers", "vocab_size"):
            if getattr(first, what) != getattr(other, what):
                fits = False
                findings.add(
                    "parents",
                    f"{other.name} has {what.replace('_', ' ')} {getattr(other, what)}, but {first.name} has "
                    f"{getattr(first, what)}; parents must share one architecture, size and vocabulary",
                )
                break
    return fits


def _prepare(entry: SearchEntry, folder: Path, findings: Findings, models: Sequence[Model]) -> Prepared | None:
    where = findings.where
    pools = PoolSizes(search=entry.pools.search, select=entry.pools.select, report=entry.pools.report)
    if entry.subset.size > entry.pools.search:
        findings.add("subset.size", f"found {entry.subset.size}, more than pools.search has ({entry.pools.search})")
    requests = [_request(task, folder, f"{where}: tasks.{i}") for i, task in enumerate(entry.tasks)]
    tokenizer = None
    if entry.lm_eval.get("apply_chat_template") and models:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(models[0].folder)
    return findings.attempt(
        "tasks",
        lambda: prepare_tasks(
            requests,
            task_path=resolve(folder, entry.task_path) if entry.task_path else None,
            pools=pools,
            seed=entry.seed,
            lm_eval_options=entry.lm_eval,
            allow_test_split=entry.allow_test_split,
            tokenizer=tokenizer,
        ),
    )


def _request(task: TaskEntry, folder: Path, where: str) -> TaskRequest:
    scorer = task.scorer
    if scorer is not None:
        file, _, function = scorer.rpartition(":")
        scorer = f"{resolve(folder, file)}:{function}"
    return TaskRequest(
        task=task.task,
        scorer=scorer,
        items=resolve(folder, task.items) if task.items else None,
        metric=task.metric,
        num_fewshot=task.num_fewshot,
        direction=task.direction,
        weight=task.weight,
        floor=task.floor if isinstance(task.floor, float) else None,
        scale=task.scale,
        where=where,
    )


def _optimizer(entry: SearchEntry, space: Space) -> tuple[str, dict[str, Any]]:
    options = dict(entry.optimizer)
    name = options.pop("name", "auto")
    if name == "auto":
        name = resolve_auto(space.domain, len(entry.tasks))
    return name, options


def _optimizer_problems(entry: SearchEntry, space: Space, where: str) -> list[Problem]:
    name, options = _optimizer(entry, space)
    sentences = validate_options(name, options, space.domain, len(entry.tasks))
    return [Problem(f"{where}: optimizer", sentence) for sentence in sentences]


def _start_reference(text: str, folder: Path, findings: Findings) -> Reference | None:
    recipe = findings.attempt("start", lambda: load_recipe(resolve(folder, text)))
    return None if recipe is None else Reference(text, "control", dict(recipe.document))


def _check_buildable(
    space: Space, parents: Parents, starts: Sequence[Reference], folder: Path, findings: Findings
) -> None:
    """Plan the space's own start and the user's start recipes: most mistakes show there, before any time is spent."""
    documents = [("space", space.decode(space.start)), *(("start", start.document) for start in starts)]
    for place, document in documents:
        recipe = findings.attempt(place, lambda document=document: parse_recipe(document, root=folder))  # type: ignore[misc]
        if recipe is None:
            continue
        strange = [str(ref) for ref in recipe.models if ref not in parents]
        if strange:
            findings.add(place, f"a start recipe uses {strange[0]}, which is none of the search's parents")
            continue
        findings.attempt(place, lambda recipe=recipe: (make_plan(recipe, parents), output_tokenizer(recipe, parents)))  # type: ignore[misc]


def _trackers(entry: SearchEntry, findings: Findings) -> tuple[Tracker, ...]:
    """Create the trackers; their constructors refuse wrong options."""
    found = [
        findings.attempt(f"trackers.{i}", lambda tracker=tracker: create(tracker.name, tracker.options))  # type: ignore[misc]
        for i, tracker in enumerate(entry.trackers)
    ]
    return tuple(tracker for tracker in found if tracker is not None)


def _notes(models: Any) -> list[str]:
    licenses = {model.name: model.summary(digest=False).license for model in models}
    unknown = [name for name, license in licenses.items() if license is None]
    return (
        [f"no license is stated for {', '.join(unknown)}; the result's license is for you to settle"] if unknown else []
    )
