"""Whose tokenizer the result takes."""

import json
from typing import Any

from evomerge.checkpoint import Checkpoint, Parents
from evomerge.errors import MergeFailed
from evomerge.recipe import ModelRef, Recipe


def tokenizer_donor(recipe: Recipe, parents: Parents) -> Checkpoint:
    """Return the model that the tokenizer files come from.

    Raises:
        MergeFailed: the recipe asks for something else than one of its models' tokenizers, or for the union of
            different vocabularies.
    """
    asked: Any = dict(recipe.tokenizer or {})
    source = asked.pop("source", "base")
    unsupported = [key for key, value in asked.items() if value]
    if unsupported:
        raise MergeFailed(f"tokenizer.{unsupported[0]} is not supported yet; leave it out")
    if source == "base":
        return parents[recipe.donor]
    if source == "union":
        vocabularies = {json.dumps(_vocabulary(parents[ref]), sort_keys=True) for ref in recipe.models}
        if len(vocabularies) > 1:
            raise MergeFailed("tokenizer: union of different vocabularies is not supported yet; use source: base")
        return parents[recipe.donor]
    ref = ModelRef.parse(source)
    if ref not in parents:
        raise MergeFailed(f"tokenizer: {ref} is not one of the recipe's models")
    return parents[ref]


def _vocabulary(model: Checkpoint) -> Any:
    path = model.folder / "tokenizer.json"
    if not path.exists():
        raise MergeFailed(f"{model.name} has no tokenizer.json, so its vocabulary cannot be compared")
    content = json.loads(path.read_text(encoding="utf-8"))
    return [content.get("model", {}).get("vocab"), content.get("added_tokens")]
