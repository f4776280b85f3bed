"""The result's tokenizer, and how the parents' rows are aligned to it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evomerge.checkpoint import (
    Model,
    NewToken,
    Parents,
    Tokenizer,
    chat_template,
)
from evomerge.engine._alignment import Alignment, align, embedding_rows, uncovered_tokens
from evomerge.errors import MergeFailed
from evomerge.recipe import ModelRef, Recipe, VocabularyRule

MAX_TOKENS_IN_NOTE = 5
PLAIN_FLAGS = (("lstrip", False), ("normalized", True), ("rstrip", False), ("single_word", False), ("special", False))


class Vocabulary(NamedTuple):
    """What a recipe's tokenizer: means for its parents.

    Attributes:
        source: the model whose special tokens the result has.
        tokenizer: the result's.
        alignment: of the parents' rows; None = every parent fits as it is.
        notes: what the user should know.
    """

    source: Model
    tokenizer: Tokenizer
    alignment: Alignment | None
    notes: tuple[str, ...]


def output_tokenizer(recipe: Recipe, parents: Parents) -> Tokenizer:
    """Return the result's tokenizer.

    Raises:
        MergeFailed: the recipe asks for a model that it does not merge, or a tokenizer cannot be read.
    """
    result, rule = _source(recipe, parents).tokenizer, recipe.vocabulary
    if rule is None:
        return result
    if rule.source == "union":
        for ref in recipe.merged:
            result = result.joined_with(parents[ref].tokenizer, embedding_rows(parents[ref]))
    return result.with_tokens(_new_tokens(rule, result, parents))


def _new_tokens(rule: VocabularyRule, known: Tokenizer, parents: Parents) -> list[NewToken]:
    """Return the tokens that the recipe has rules for and that are not there yet, matched as their model matches them.

    A token that is new to its model too is matched as it stands.
    """
    found = []
    for token, token_rule in rule.tokens.items():
        if token not in known.vocabulary:
            source = None if token_rule.model is None else parents[token_rule.model].tokenizer
            own = source.token(token) if source and token in source.vocabulary else NewToken(token)
            found.append(own if own.flags else NewToken(token, PLAIN_FLAGS))
    return found


def vocabulary(recipe: Recipe, parents: Parents) -> Vocabulary:
    """Return tokenizer and alignment of a recipe; computed once for the same models.

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

    A recipe's `tokenizer:` says how such rows are merged.
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
    top = max(output.vocabulary.values(), default=-1) + 1
    size = -(-top // rule.multiple) * rule.multiple if rule.multiple else max(top, embedding_rows(source))
    same = all(parents[ref].tokenizer.vocabulary == output.vocabulary for ref in merged)
    if same and not rule.tokens and all(embedding_rows(parents[ref]) == size for ref in merged):
        return Vocabulary(source, output, None, ())
    alignment = align(parents, merged, recipe.base, output, size, rule.tokens)
    notes = _notes(output, alignment, rule, known=frozenset().union(*(parents[r].tokenizer.vocabulary for r in merged)))
    return Vocabulary(source, output, alignment, tuple(notes))


def _notes(output: Tokenizer, alignment: Alignment, rule: VocabularyRule, known: frozenset[str]) -> Iterator[str]:
    """Yield a line for tokens that the user may not expect.

    Args:
        output: the result's tokenizer.
        alignment: of the parents' rows to it.
        rule: the recipe's.
        known: the tokens of the merged models.
    """
    uncovered = uncovered_tokens(alignment, output.vocabulary.items())
    empty = [token for token in uncovered if token not in rule.tokens]
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
    """Return the first few tokens as text."""
    listed = ", ".join(repr(token) for token in tokens[:MAX_TOKENS_IN_NOTE])
    return listed + (", ..." if len(tokens) > MAX_TOKENS_IN_NOTE else "")


def _source(recipe: Recipe, parents: Parents) -> Model:
    """Return the model whose tokenizer the result has, or extends."""
    named = None if recipe.vocabulary is None else recipe.vocabulary.source
    ref = named if isinstance(named, ModelRef) else recipe.config_source
    if ref not in parents:
        raise MergeFailed(f"tokenizer: {ref} is not one of the recipe's models")
    return parents[ref]
