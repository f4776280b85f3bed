"""A recipe as mergekit reads it, for people who build with mergekit."""

from collections.abc import Iterator, Mapping, Sequence
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


def to_mergekit(recipe: Recipe, block_outputs: Sequence[str] = ()) -> MergekitText:
    """Write a recipe for mergekit.

    Args:
        recipe: any recipe.
        block_outputs: tensors inside a block that its contribution is proportional to, as its family calls them; with
            them, the gains of a stack are written as scales of these tensors.

    Raises:
        InvalidInput: the recipe sets something that mergekit has no key for and that changes the model.
    """
    notes = [note for inner in recipe.merges.values() for note in to_mergekit(inner).notes]
    if recipe.method not in methods.built_in_names():
        raise InvalidInput(f"mergekit has no method {recipe.method}; export as recipe or hf instead")
    if len(recipe.methods) > 1:
        raise InvalidInput("mergekit has no key for evomerge.methods; export as recipe or hf instead")
    if recipe.variants:
        raise InvalidInput(f"mergekit has no key for evomerge.variants ({', '.join(recipe.variants)})")
    document = _plain(recipe)
    if has_gains(recipe):
        if not block_outputs or not _is_plain_stack(recipe):
            raise InvalidInput("mergekit has no key for evomerge.gains; export as recipe or hf instead")
        document["slices"] = list(_scaled(recipe, block_outputs))
    if methods.get(recipe.method).random:
        notes.append("mergekit draws its own random masks, so its result differs from the one that was scored")
    if recipe.commits:
        notes.append("mergekit takes no pinned commits; write owner/name@commit to get the same parents")
    if recipe.root is not None:
        notes.append("mergekit resolves relative model paths against the folder it is started in")
    if recipe.merges:
        notes.append("several documents: build it with mergekit-multi")
    notes = list(dict.fromkeys(notes))
    documents = [*({"name": name, **_plain(inner)} for name, inner in recipe.merges.items()), document]
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return MergekitText("".join(f"# {note}\n" for note in notes) + text, tuple(notes))


def _plain(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.document.items() if key != "evomerge"}


def has_gains(recipe: Recipe) -> bool:
    """Tell whether a block of the result is scaled."""
    return any(gain != 1 for gain in recipe.gains or ())


def _is_plain_stack(recipe: Recipe) -> bool:
    """Whether every slice is a range of one model's blocks, and none is scaled in another way."""
    document = recipe.document
    slices = document.get("slices") or []
    levels: list[Mapping[str, Any]] = [document, *slices, *(source for part in slices for source in part["sources"])]
    return (
        recipe.method == "passthrough"
        and bool(slices)
        and not any(level.get("parameters") for level in levels)
        and all(len(part["sources"]) == 1 and "layer_range" in part["sources"][0] for part in slices)
    )


def _scaled(recipe: Recipe, block_outputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a stack's slices, cut where the gain changes, with scales instead of gains."""
    gains = iter(recipe.gains or ())
    for part in recipe.document["slices"]:
        source = part["sources"][0]
        first, end = source["layer_range"]
        pieces: list[tuple[int, int, float]] = [] if first < end else [(first, end, 1.0)]
        for layer in range(first, end):
            gain = next(gains)
            if pieces and pieces[-1][2] == gain:
                pieces[-1] = (pieces[-1][0], layer + 1, gain)
            else:
                pieces.append((layer, layer + 1, gain))
        for start, stop, gain in pieces:
            scale = [*({"filter": name, "value": gain} for name in block_outputs), {"value": 1.0}]
            parameters = {} if gain == 1 else {"parameters": {"scale": scale}}
            yield {**part, "sources": [{**source, "layer_range": [start, stop], **parameters}]}
