"""A recipe as mergekit reads it, for people who build with mergekit."""

from typing import Any, NamedTuple

import yaml

from evomerge import methods
from evomerge.errors import InvalidInput
from evomerge.recipe._recipe import Recipe


class MergekitText(NamedTuple):
    """A recipe for mergekit.

    Attributes:
        text: of a file for mergekit-yaml.
        notes: what mergekit cannot express, so that its result differs.
    """

    text: str
    notes: tuple[str, ...]


def to_mergekit(recipe: Recipe) -> MergekitText:
    """Write a recipe for mergekit.

    Args:
        recipe: any recipe.

    Raises:
        InvalidInput: the recipe sets something that mergekit has no key for and that changes the model.
    """
    notes = [note for inner in recipe.merges.values() for note in to_mergekit(inner).notes]
    if recipe.method not in methods.built_in_names():
        raise InvalidInput(f"mergekit has no method {recipe.method}; export as recipe or hf instead")
    if recipe.variants:
        raise InvalidInput(f"mergekit has no key for evomerge.variants ({', '.join(recipe.variants)})")
    if recipe.gains and any(gain != 1 for gain in recipe.gains):
        raise InvalidInput("mergekit has no key for evomerge.gains; export as recipe or hf instead")
    if methods.get(recipe.method).random:
        notes.append("mergekit draws its own random masks, so its result differs from the one that was scored")
    if recipe.commits:
        notes.append("mergekit takes no pinned commits; write owner/name@commit to get the same parents")
    if recipe.root is not None:
        notes.append("mergekit resolves relative model paths against the folder it is started in")
    if recipe.merges:
        notes.append("several documents: build it with mergekit-multi")
    notes = list(dict.fromkeys(notes))
    documents = [*({"name": name, **_plain(inner)} for name, inner in recipe.merges.items()), _plain(recipe)]
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return MergekitText("".join(f"# {note}\n" for note in notes) + text, tuple(notes))


def _plain(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.document.items() if key != "evomerge"}
