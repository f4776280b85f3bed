"""The result's tokenizer, and how the parents' rows are aligned to it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evomerge.checkpoint import (
    Model,
    NewToken,
    Parents,
    Tokenizer,
    chat_template,
    is_vocabulary,
)
from evomerge.engine._alignment import Alignment, align, orphans
from evomerge.errors import MergeFailed
from evomerge.recipe import ModelRef, Recipe, VocabularyRule

SHOWN = 5  # tokens that one note lists
PLAIN = (("lstrip", False), ("normalized", True), ("rstrip", False), ("single_word", False), ("special", False))


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
    result, rule = _source(recipe, parents).tokenizer, recipe.vocabulary
    if rule is None:
        return result
    if rule.source == "union":
        for ref in recipe.merged:
            result = result.joined_with(parents[ref].tokenizer, _height(parents[ref]))
    return result.with_tokens(_asked_for(rule, result, parents))


def _asked_for(rule: VocabularyRule, known: Tokenizer, parents: Parents) -> list[NewToken]:
    """Return the tokens that the recipe has rules for and that are not there yet, matched as their model matches them.

    A token that is new to its model too is matched as it stands.
    """
    found = []
    for token, each in rule.tokens.items():
        if token not in known.vocabulary:
            donor = None if each.model is None else parents[each.model].tokenizer
            own = donor.token(token) if donor and token in donor.vocabulary else NewToken(token)
            found.append(own if own.flags else NewToken(token, PLAIN))
    return found


def vocabulary(recipe: Recipe, parents: Parents) -> Vocabulary:
    """Return tokenizer and alignment of a recipe; worked out once for the same models.

    Raises:
        MergeFailed: see `output_tokenizer`; or a rule for a token names one that does not exist.
    """
    rule = recipe.vocabulary
    if rule is None:
        return Vocabulary(_source(recipe, parents), _source(recipe, parents).tokenizer, None, ())
    tokens = tuple(sorted(rule.tokens.items()))
    key = ("vocabulary", recipe.inputs, recipe.base, recipe.config_source, rule.source, tokens, rule.multiple)
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
    notes = _notes(output, alignment, rule, known=frozenset().union(*(parents[r].tokenizer.vocabulary for r in merged)))
    return Vocabulary(source, output, alignment, tuple(notes))


def _notes(output: Tokenizer, alignment: Alignment, rule: VocabularyRule, known: frozenset[str]) -> Iterator[str]:
    """Yield a line for tokens that a person may not expect. known: the tokens of the merged models."""
    empty = [t for t in orphans(alignment, output.vocabulary.items()) if t not in rule.tokens]
    if empty:
        yield f"tokenizer: {len(empty)} tokens have a row in no model and get zeros ({_some(empty)})"
    new = [token for token in rule.tokens if token not in known]
    if new:
        yield f"tokenizer.tokens: no model has {_some(new)}, so it is added to the vocabulary"
    unread = output.unreachable
    if unread:
        yield (
            f"tokenizer: the union reads text as {output.name} does, which never leads to {len(unread)} of the tokens "
            f"that other models add ({_some(unread)}); name a model as the source to read text its way"
        )


def _some(tokens: Sequence[str]) -> str:
    return ", ".join(repr(token) for token in tokens[:SHOWN]) + (", ..." if len(tokens) > SHOWN else "")


def _source(recipe: Recipe, parents: Parents) -> Model:
    """Return the model that the tokenizer is, or starts from."""
    asked = None if recipe.vocabulary is None else recipe.vocabulary.source
    ref = asked if isinstance(asked, ModelRef) else recipe.config_source
    if ref not in parents:
        raise MergeFailed(f"tokenizer: {ref} is not one of the recipe's models")
    return parents[ref]


def _height(model: Model) -> int:
    """Return the number of rows of a model's embedding."""
    heights = [info.shape[0] for name, info in model.tensors.items() if is_vocabulary(name) and len(info.shape) == 2]
    if not heights:
        raise MergeFailed(f"{model.name}: no token embedding was found, which tokenizer: needs")
    return heights[0]
