"""Everything that can be known of a search before it runs: parents, space, tasks, optimizer; every problem at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.checkpoint import Model, Parents, Tokenizer
from evomerge.errors import InvalidInput
from evomerge.evaluation import Prepared
from evomerge.optimizers import get, goes_by_levels, resolve_auto, validate_options
from evomerge.recipe import ModelRef, load_recipe, read_yaml
from evomerge.records import Domain, Objective
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._engine import check_engine, engine_notes
from evomerge.run.config._extensions import Extensions, class_name
from evomerge.run.config._parents import check_buildable, license_notes, open_parents, pins, same_shape
from evomerge.run.config._schema import ReadEntry, SearchEntry, read_entry, resolve, with_overrides
from evomerge.run.config._setup import Setup
from evomerge.run.config._tasks import prepare, relative_floors
from evomerge.run.config._vocabulary import OutputVocabulary, check_vocabulary
from evomerge.run.trackers import Tracker, create
from evomerge.space import Reference, Space, build_space, read_space, references

_ANY_DOMAIN = Domain(reals=2)  # stands for the space where that is unknown: every optimizer can vary it


def check_search(
    source: Path | str | Mapping[str, Any], *, extensions: Extensions | None = None, **overrides: Any
) -> Setup:
    """Read and check a search.

    Args:
        source: a search file, or its content; paths in that start at the working directory.
        extensions: objects of the caller's.
        overrides: the caller's hours, candidates, workers, seed and control; None = as the file says.

    Raises:
        InvalidInput: the file cannot be read, or an extension is not what it should be.
        InvalidFile: every problem at once.
        RefusedForSafety: a parent is unsafe.
    """
    if isinstance(source, Mapping):
        data, where, folder = dict(source), "search", Path.cwd()
    else:
        path = Path(source)
        data, where, folder = read_yaml(path), str(path), path.resolve().parent
        if not isinstance(data, dict):
            raise InvalidInput(f"{path}: expected a mapping of keys to values")
    extensions = extensions or Extensions()
    extensions.register()
    data = extensions.applied(with_overrides(data, **overrides))
    return _checked(data, where, folder, extensions)


def _checked(data: dict[str, Any], where: str, folder: Path, extensions: Extensions) -> Setup:
    """Check each section, whatever is wrong with the others."""
    read = read_entry(data, where)
    problems = ProblemCollector(where, read.problems)
    if read.entry is None:
        problems.fail()
    entry = read.entry
    opened = {} if "parents" in read.broken else open_parents(entry.parents, folder, problems)
    space, space_data = _space(read, extensions, opened, folder, problems)
    aligned, parts = data.get("tokenizer") is not None, tuple(getattr(space, "parts", ()))
    fit = same_shape(list(opened.values()), problems, aligned=aligned, parts=parts)
    parents = _parents(read, opened, fit, folder)
    words = check_vocabulary(entry, data.get("tokenizer"), parents, problems)
    options = _optimizer(read, space, problems)
    tokenizers = [*([words.tokenizer] if words else []), *(model.tokenizer for model in opened.values())]
    prepared = _prepared(read, folder, tokenizers, problems)
    check_engine(entry.workers, prepared, list(opened.values()), problems)
    _check_merges(entry, space, problems)
    floors = {} if read.broken else relative_floors(entry, prepared, problems)
    starts = _start_references(entry, folder, problems)
    trackers = (*_trackers(entry, problems), *extensions.trackers)
    if parents is not None and (words is None) == (entry.tokenizer is None):
        check_buildable(space, words, parents, starts, folder, problems)
    elif entry.start:
        problems.skip("start", "parents")
    if problems.problems:
        problems.fail()
    assert space is not None and parents is not None and prepared is not None
    base = opened[entry.parents.base] if entry.parents.base else None
    models = [opened[ref] for ref in entry.parents.models]
    name = options.pop("name")
    setup = Setup(
        where=where,
        folder=folder,
        data=data,
        entry=entry,
        parents=parents,
        base=base.summary(digest=False) if base else None,
        models=tuple(model.summary(digest=False) for model in models),
        space=space,
        space_data=space_data,
        prepared=prepared,
        optimizer=name,
        optimizer_options=options,
        references=(*_fixed_references(base, models, space, words), *starts),
        relative_floors=floors,
        notes=(
            *prepared.notes,
            *(words.notes if words else ()),
            *license_notes(opened.values()),
            *_optimizer_notes(space, prepared.objectives, floors, name),
            *engine_notes(entry.workers, prepared),
        ),
        vocabulary=words,
        trackers=trackers,
        extensions=extensions,
    )
    _check_items(setup, problems)
    return setup


def _check_items(setup: Setup, problems: ProblemCollector) -> None:
    """Refuse a budget of items that the references alone use up."""
    budget, count = setup.entry.budget.items, len(setup.references)
    pools = [setup.prepared.pools[o.name]["search"] for o in setup.objectives if not o.exact]
    items = sum(min(setup.reference_items, len(pool)) for pool in pools)
    if budget is not None and budget <= count * items:
        problems.add(
            "budget.items",
            f"found {budget:,}, which is spent before the first candidate: the {count} references are scored on "
            f"{items:,} items of the search pool each ({count * items:,}); raise it, or make pools.search smaller",
        )
        problems.fail()


def _prepared(
    read: ReadEntry, folder: Path, tokenizers: Sequence[Tokenizer], problems: ProblemCollector
) -> Prepared | None:
    """Return the tasks with their items, or None after noting what is wrong with them."""
    assert read.entry is not None
    if "tasks" not in read.broken:
        return prepare(read.entry, folder, problems, tokenizers)
    problems.skip("pools", "tasks")
    return None


def _check_merges(entry: SearchEntry, space: Space | None, problems: ProblemCollector) -> None:
    """Note a wish for averages of front members where there is no front, or no exact average."""
    if not entry.proof.merges or space is None:
        return
    averaged = getattr(space, "averaged", None)
    if len(entry.tasks) < 2:
        problems.add("proof.merges", "one task has no front with several members; leave it out")
    elif averaged is None or averaged([space.start]) is None:
        problems.add(
            "proof.merges",
            "an average of two merges of this space is no merge of the same parents: that is so for weights alone, by "
            "task_arithmetic or linear; leave it out, or take such a space",
        )


def _refs(entry: SearchEntry) -> list[ModelRef]:
    return [*([entry.parents.base] if entry.parents.base else []), *entry.parents.models]


def _fixed_references(
    base: Model | None, models: Sequence[Model], space: Space, words: OutputVocabulary | None
) -> list[Reference]:
    """Return the references that every search has."""
    names, dtype = [model.name for model in models], getattr(space, "dtype", None)
    tokenizer, moved = (words.document, words.moved) if words else (None, ())
    kinds = {model.summary(digest=False).architecture for model in (*([base] if base else []), *models)}
    parts = tuple(getattr(space, "parts", ())) if len(kinds) > 1 else ()
    return references(base.name if base else None, names, dtype, tokenizer, moved, parts=parts)


def _parents(read: ReadEntry, opened: Mapping[ModelRef, Model], fit: bool, folder: Path) -> Parents | None:
    """Return the parents as a merge is planned from them, or None while something is wrong with them."""
    assert read.entry is not None
    if "parents" in read.broken or not fit or list(opened) != _refs(read.entry):
        return None
    return Parents(list(opened), folder, pins(opened))


def _space(
    read: ReadEntry, extensions: Extensions, opened: Mapping[ModelRef, Model], folder: Path, problems: ProblemCollector
) -> tuple[Space | None, Any]:
    """Return the space, and its identity as plain data."""
    entry = read.entry
    assert entry is not None
    if "space" in read.broken:
        return None, None
    where = problems.where
    given = extensions.space if extensions.space is not None else entry.space
    if extensions.space is None and isinstance(given, dict) and set(given) == {"object"}:
        problems.add("space", f"is {given['object']}, an object of Python; give it again as evomerge.search(space=...)")
        return None, None
    found = problems.attempt("space", lambda: read_space(given, folder, where))
    if found is None:
        return None, None
    if set(opened) != set(_refs(entry)):
        problems.skip("space", "parents")
        return None, None
    base = opened[entry.parents.base].summary(digest=False) if entry.parents.base else None
    models = [opened[ref].summary(digest=False) for ref in entry.parents.models]
    space = problems.attempt("space", lambda: build_space(*found, base, models))
    if space is None or extensions.space is None:
        return space, found[0]
    return space, {"object": class_name(space), "description": dict(extensions.space.description)}


def _optimizer(read: ReadEntry, space: Space | None, problems: ProblemCollector) -> dict[str, Any]:
    """Return the optimizer's options with its resolved name; note what is wrong with them."""
    assert read.entry is not None
    options = dict(read.entry.optimizer)
    name = options.pop("name", "auto")
    objectives = 1 if "tasks" in read.broken else len(read.entry.tasks)
    if space is None:
        problems.skip("optimizer", "space")
        if name == "auto":
            return {}
    domain = space.domain if space is not None else _ANY_DOMAIN
    if name == "auto":
        name = resolve_auto(domain, objectives)
    for sentence in validate_options(name, options, domain, objectives):
        problems.add("optimizer", sentence)
    return {"name": name, **options}


def _optimizer_notes(
    space: Space, objectives: Sequence[Objective], floors: Mapping[str, Any], optimizer: str
) -> Iterator[str]:
    """Yield a sentence if the space has levels, or the tasks an objective, that the optimizer does not go by."""
    if getattr(space, "levels", ()) and not goes_by_levels(optimizer):
        yield f"{optimizer} varies all numbers of the space at once, without its levels; guided and cma go through them"
    names = [o.name for o in objectives if not o.weight and o.floor is None and o.name not in floors]
    if names and get(optimizer).scalar:
        yield (
            f"{optimizer} does not go by {' and '.join(names)}: weight 0 and no floor. Give a floor, or a weight "
            "with a scale, or search the whole front with optimizer: nsga2"
        )


def _start_references(entry: SearchEntry, folder: Path, problems: ProblemCollector) -> list[Reference]:
    """Return the user's own recipes that can be read."""
    found = []
    for text in entry.start:
        recipe = problems.attempt("start", lambda text=text: load_recipe(resolve(folder, text)))  # type: ignore[misc]
        if recipe is not None:
            found.append(Reference(text, "control", dict(recipe.document)))
    return found


def _trackers(entry: SearchEntry, problems: ProblemCollector) -> list[Tracker]:
    """Create the trackers; their constructors refuse wrong options."""
    found = []
    for i, tracker in enumerate(entry.trackers):
        created = problems.attempt(
            f"trackers.{i}",
            lambda tracker=tracker: create(tracker.name, tracker.options),  # type: ignore[misc]
        )
        if created is not None:
            found.append(created)
    return found
