"""Stacks of blocks as recipes: the path through the parents' blocks, and the document that says it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evomerge.errors import InvalidInput

METHOD = "passthrough"


class StackBlock(NamedTuple):
    """One block of a stack.

    Attributes:
        model: name of the model that it is taken from.
        layer: its number there.
        gain: factor on what it adds to the residual stream.
    """

    model: str
    layer: int
    gain: float = 1.0


class StackPath(NamedTuple):
    """What a stack is made of.

    Attributes:
        ends: names of the models that give config, embeddings, final norm and head.
        blocks: in their order.
    """

    ends: set[str]
    blocks: list[StackBlock]


def stack_of(
    blocks: Sequence[StackBlock], *, base: str, dtype: str | None, extension: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the recipe of a stack, as plain data; blocks that follow each other in one model are one slice.

    Args:
        blocks: in their order.
        base: name of the model that gives config, embeddings, final norm and head.
        dtype: of the stack, or None: as the parents'.
        extension: fixed `evomerge:` block; the gains are added to it where one is not 1.
    """
    sources: list[dict[str, Any]] = []
    for block in blocks:
        if sources and sources[-1]["model"] == block.model and sources[-1]["layer_range"][1] == block.layer:
            sources[-1]["layer_range"][1] += 1
        else:
            sources.append({"model": block.model, "layer_range": [block.layer, block.layer + 1]})
    ends = {"model": base, "layer_range": [0, 0]}
    gains = [block.gain for block in blocks]
    extension = {**extension, **({"gains": gains} if any(gain != 1 for gain in gains) else {})}
    return {
        "merge_method": METHOD,
        "base_model": base,
        "slices": [{"sources": [source]} for source in (dict(ends), *sources, dict(ends))],
        **({"dtype": dtype} if dtype else {}),
        **({"evomerge": extension} if extension else {}),
    }


def path_of(document: Mapping[str, Any]) -> StackPath:
    """Return what a stack is made of.

    Raises:
        InvalidInput: the recipe is no stack, or does more than stacking.
    """
    slices = document.get("slices") or []
    if document.get("merge_method") != METHOD or not slices:
        raise InvalidInput("it is no stack of layers")
    sources = []
    for level in [document, *slices, *(source for part in slices for source in part["sources"])]:
        if level.get("parameters"):
            raise InvalidInput("it scales tensors, which no stack of this space does")
    for part in slices:
        if len(part["sources"]) != 1:
            raise InvalidInput("it merges blocks, which no stack of this space does")
        sources.append(part["sources"][0])
    blocks = [(str(source["model"]), layer) for source in sources for layer in range(*source["layer_range"])]
    gains = document.get("evomerge", {}).get("gains") or [1.0] * len(blocks)
    if len(gains) != len(blocks):
        raise InvalidInput(f"it has {len(gains)} gains for {len(blocks)} blocks")
    ends = {str(document.get("base_model", sources[0]["model"])), str(sources[0]["model"]), str(sources[-1]["model"])}
    path = [StackBlock(model, layer, float(gain)) for (model, layer), gain in zip(blocks, gains, strict=True)]
    return StackPath(ends, path)
