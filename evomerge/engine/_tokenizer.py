"""The result's tokenizer, and how the parents' rows are aligned to it."""

from collections.abc import Sequence
from typing import NamedTuple

from evomerge.checkpoint import Model, Parents, Tokenizer, chat_template, is_vocabulary
from evomerge.engine._alignment import Alignment, align, orphans
from evomerge.errors import MergeFailed
from evomerge.recipe import ModelRef, Recipe

SHOWN = 5  # tokens that one note lists


class Vocabulary(NamedTuple):
    """What a recipe's tokenizer: means for its parents.

    source: the model whose special tokens hold. alignment: None = every parent fits as it is.
    """

    source: Model
    tokenizer: Tokenizer
    alignment: Alignment | None
    notes: tuple[str, ...]


def output_tokenizer(recipe: Recipe, parents: Parents) -> Tokenizer:
    """Return the tokenizer that the result takes.

    Raises:
        MergeFailed: the recipe asks for a model that it does not merge, or a tokenizer cannot be read.
    """
    source = _source(recipe, parents).tokenizer
    if recipe.vocabulary is None or recipe.vocabulary.source != "union":
        return source
    union = source
    for ref in recipe.inputs:
        union = union.with_tokens(parents[ref].tokenizer.tokens_beyond(union.vocabulary))
    return union


def vocabulary(recipe: Recipe, parents: Parents) -> Vocabulary:
    """Return tokenizer and alignment of a recipe; worked out once for the same models.

    Raises:
        MergeFailed: see `output_tokenizer`; or a rule for a token names one that does not exist.
    """
    rule = recipe.vocabulary
    if rule is None:
        return Vocabulary(_source(recipe, parents), _source(recipe, parents).tokenizer, None, ())
    tokens = tuple(sorted(rule.tokens.items()))
    key = ("vocabulary", recipe.inputs, recipe.base, recipe.donor, rule.source, tokens, rule.multiple)
    if key not in parents.memo:
        parents.memo[key] = _vocabulary(recipe, parents)
    found: Vocabulary = parents.memo[key]
    return found


def vocabulary_notes(models: Sequence[Model]) -> list[str]:
    """Return a line for each model whose tokens have other ids than the first's; none where a tokenizer is unreadable.

    What merging them row by row means is for a recipe's tokenizer: to say.
    """
    notes = []
    for model in models[1:]:
        try:
            first, other = models[0].tokenizer.vocabulary, model.tokenizer.vocabulary
        except MergeFailed:
            continue
        moved = sum(1 for token, number in other.items() if first.get(token, number) != number)
        unknown = sum(1 for token in other if token not in first)
        if moved or unknown:
            notes.append(
                f"{model.name} has {moved} tokens under other ids than {models[0].name} and {unknown} of its own; "
                "tokenizer: {source: union} or {source: base} aligns their rows"
            )
    return notes


def template_of(recipe: Recipe, parents: Parents) -> str | None:
    """Return the chat template that the recipe asks for, or None to keep the tokenizer's own."""
    if recipe.chat_template is None:
        return None
    return chat_template(recipe.chat_template, [parents[ref].tokenizer for ref in recipe.merged])


def _vocabulary(recipe: Recipe, parents: Parents) -> Vocabulary:
    rule = recipe.vocabulary
    assert rule is not None
    source, output = _source(recipe, parents), output_tokenizer(recipe, parents)
    merged = recipe.merged
    lenders = [r.model for r in rule.tokens.values() if r.model]
    heights = {ref: _height(parents[ref]) for ref in (*merged, *lenders)}
    top = max(output.vocabulary.values(), default=-1) + 1
    size = -(-top // rule.multiple) * rule.multiple if rule.multiple else max(top, _height(source))
    same = all(parents[ref].tokenizer.vocabulary == output.vocabulary for ref in merged)
    if same and not rule.tokens and all(heights[ref] == size for ref in merged):
        return Vocabulary(source, output, None, ())
    alignment = align(parents, merged, lenders, recipe.base, output, size, heights, rule.tokens)
    empty = [t for t in orphans(alignment, output.vocabulary.items()) if t not in rule.tokens]
    listed = ", ".join(repr(token) for token in empty[:SHOWN]) + (", ..." if len(empty) > SHOWN else "")
    note = f"tokenizer: {len(empty)} tokens have a row in no model and get zeros ({listed})"
    return Vocabulary(source, output, alignment, (note,) if empty else ())


def _source(recipe: Recipe, parents: Parents) -> Model:
    """Return the model that the tokenizer is, or starts from."""
    asked = None if recipe.vocabulary is None else recipe.vocabulary.source
    ref = asked if isinstance(asked, ModelRef) else recipe.donor
    if ref not in parents:
        raise MergeFailed(f"tokenizer: {ref} is not one of the recipe's models")
    return parents[ref]


def _height(model: Model) -> int:
    """Return the number of rows of a model's embedding."""
    heights = [info.shape[0] for name, info in model.tensors.items() if is_vocabulary(name) and len(info.shape) == 2]
    if not heights:
        raise MergeFailed(f"{model.name}: no token embedding was found, which tokenizer: needs")
    return heights[0]
