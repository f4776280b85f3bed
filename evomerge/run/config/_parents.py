"""Checking a search's parents: that they open, fit one another, and give the space's and the user's merges."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from evomerge.checkpoint import Model, Parents, open_model
from evomerge.engine import make_plan, output_tokenizer
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._schema import ParentsEntry
from evomerge.run.config._vocabulary import OutputVocabulary
from evomerge.space import Reference, Space

_MUST_AGREE = ("architecture", "hidden_size", "num_layers")


def open_parents(entry: ParentsEntry, folder: Path, problems: ProblemCollector) -> dict[ModelRef, Model]:
    """Return the parents that can be opened, the base first."""
    places = [("base", entry.base)] if entry.base else []
    places += [(f"models.{i}", ref) for i, ref in enumerate(entry.models)]
    opened: dict[ModelRef, Model] = {}
    for place, ref in places:
        assert ref is not None
        if ref in opened:
            problems.add(f"parents.{place}", f"{ref} stands twice; name each parent once")
            continue
        model = problems.attempt(f"parents.{place}", lambda ref=ref: open_model(ref, folder))  # type: ignore[misc]
        if model is not None:
            opened[ref] = model
    return opened


def same_shape(
    models: Sequence[Model], problems: ProblemCollector, *, aligned: bool, parts: Collection[str] = ()
) -> bool:
    """Note parents that cannot be merged with the first; a difference in size is one problem, not one per tensor.

    Args:
        models: those that could be opened; the first one gives the result's config.
        problems: receives what is wrong.
        aligned: whether the search names a tokenizer, so that vocabularies may differ.
        parts: that the space merges one by one; models that have these parts in common may differ in others, as a
            language model and one that also sees do. Empty = whole models.
    """
    fits = True
    for model in models[1:]:
        first, other = models[0].summary(digest=False), model.summary(digest=False)
        alike = parts and shares_parts(models[0], model, parts)
        agree = _MUST_AGREE[1:] if alike else _MUST_AGREE
        advice = "parents must share one architecture and size"
        for what in agree if aligned else (*agree, "vocab_size"):
            if what == "vocab_size":
                advice = "`tokenizer: union` (or base, or a parent) puts all of them on one vocabulary"
            if getattr(first, what) != getattr(other, what):
                fits = False
                problems.add(
                    "parents",
                    f"{other.name} has {what.replace('_', ' ')} {getattr(other, what)}, but {first.name} has "
                    f"{getattr(first, what)}; {advice}",
                )
                break
    return fits


def shares_parts(first: Model, other: Model, parts: Collection[str]) -> bool:
    """Tell whether two models have some parts in common, with language models of one family."""
    return first.language_type == other.language_type and first.part_names & other.part_names >= set(parts)


def check_buildable(
    space: Space | None,
    vocabulary: OutputVocabulary | None,
    parents: Parents,
    starts: Sequence[Reference],
    folder: Path,
    problems: ProblemCollector,
) -> None:
    """Plan the space's own start and the user's start recipes: most mistakes show there, before any time is spent."""
    documents = [("start", start.document) for start in starts]
    if space is not None:
        first = dict(space.decode(space.start))
        if vocabulary is not None and ("tokenizer" in first or "tokenizer_source" in first):
            problems.add("tokenizer", "the space's recipes have one of their own; leave it out here")
        elif vocabulary is not None:
            first = vocabulary.added_to(first)
        documents.insert(0, ("space", first))
    for place, document in documents:
        recipe = problems.attempt(place, lambda document=document: parse_recipe(document, root=folder))  # type: ignore[misc]
        if recipe is None:
            continue
        unknown = [str(ref) for ref in recipe.models if ref not in parents]
        if unknown:
            problems.add(place, f"a start recipe uses {unknown[0]}, which is none of the search's parents")
            continue
        problems.attempt(place, lambda recipe=recipe: (make_plan(recipe, parents), output_tokenizer(recipe, parents)))  # type: ignore[misc]


def license_notes(models: Iterable[Model]) -> list[str]:
    """Return what a user must know of the parents' licenses."""
    unknown = [model.name for model in models if model.summary(digest=False).license is None]
    if not unknown:
        return []
    return [f"no license is stated for {', '.join(unknown)}; the result's license is for you to settle"]


def pins(opened: Mapping[ModelRef, Model]) -> dict[str, str]:
    """Return the commits of the Hub that the parents' names stand for."""
    return {ref.pin: model.commit for ref, model in opened.items() if model.commit}
