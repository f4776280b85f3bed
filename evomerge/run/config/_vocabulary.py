"""The tokenizer of every candidate, where a search names one: parents of different vocabularies are merged on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.checkpoint import Parents, Tokenizer
from evomerge.engine import gathered_bytes, make_plan, vocabulary
from evomerge.errors import InvalidInput
from evomerge.recipe import ModelRef, Recipe, VocabularyRule, parse_recipe
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._schema import SearchEntry, as_tokenizer

_KEYS = ("tokenizer", "tokenizer_source")  # of a recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputVocabulary:
    """The tokenizer that every candidate of a search has, and what it means for the parents.

    Attributes:
        document: what recipes say under `tokenizer:`.
        rule: the same, read.
        tokenizer: of a merge of all parents.
        row_bytes: of the parents' rows that are put on its vocabulary, in each worker.
        unchanged: names of the parents that are on it already, and whose own tokenizer it is.
        moved: names of the others.
        fact: what it is, in one line for people.
        notes: sentences for the user.
    """

    document: Mapping[str, Any]
    rule: VocabularyRule
    tokenizer: Tokenizer
    row_bytes: int
    unchanged: tuple[str, ...]
    moved: tuple[str, ...]
    fact: str
    notes: tuple[str, ...]

    def added_to(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe of the space with this tokenizer, and so the merges that it holds by name.

        Args:
            document: the recipe as plain data, without a tokenizer.
        """
        result = {**document, "tokenizer": dict(self.document)}
        extension = document.get("evomerge", {})
        if "merges" in extension:
            merges = {name: self.added_to(inner) for name, inner in extension["merges"].items()}
            result["evomerge"] = {**extension, "merges": merges}
        return result

    def removed_from(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a recipe as the space knows it: the inverse of `added_to`.

        Args:
            document: the recipe as plain data.

        Raises:
            InvalidInput: it has another tokenizer, or none.
        """
        if _rule_of(parse_recipe(document)) != self.rule:
            raise InvalidInput("its tokenizer is not the search's")
        result = {key: value for key, value in document.items() if key not in _KEYS}
        extension = document.get("evomerge", {})
        if "merges" in extension:
            merges = {name: self.removed_from(inner) for name, inner in extension["merges"].items()}
            result["evomerge"] = {**extension, "merges": merges}
        return result


def check_vocabulary(
    entry: SearchEntry, given: Any, parents: Parents | None, problems: ProblemCollector
) -> OutputVocabulary | None:
    """Return the tokenizer that a search file names, or None where it names none or after noting what is wrong.

    Args:
        entry: the search file.
        given: what it says under `tokenizer:`, as plain data: a recipe repeats it.
        parents: of the search, opened; None while something is wrong with them.
        problems: receives what is wrong.
    """
    if entry.tokenizer is None:
        return None
    if parents is None:
        problems.skip("tokenizer", "parents")
        return None
    refs, has_base = list(parents), entry.parents.base is not None
    stated = dict(as_tokenizer(given))
    stated["source"] = _source(stated.get("source", "union"), refs)
    recipe = problems.attempt("tokenizer", lambda: parse_recipe(_merge_of_all(refs, has_base, stated)))
    if recipe is None:
        return None
    unknown = [str(ref) for ref in recipe.inputs if ref not in refs]
    if unknown:
        listed = ", ".join(map(str, refs))
        problems.add("tokenizer", f"{unknown[0]} is none of the search's parents; name one of {listed}, base or union")
        return None
    found = problems.attempt("tokenizer", lambda: _found(recipe, refs, parents))
    if found is None or not entry.lm_eval.get("apply_chat_template"):
        return found
    chats = f"prompts are chats by {found.tokenizer.name}'s template for every model, parents as they are included"
    return replace(found, notes=(*found.notes, chats))


def _source(source: object, refs: Sequence[ModelRef]) -> Any:
    """Return whose tokens the result has: what every recipe of the search means alike, whichever models it merges."""
    if source == "base":
        return refs[0].plain()
    named = [ref for ref in refs if source in (str(ref), Path(ref.path).name)]
    return named[0].plain() if len(named) == 1 else source


def _merge_of_all(refs: Sequence[ModelRef], has_base: bool, tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe that merges every parent of the search."""
    base = {"base_model": refs[0].plain()} if has_base else {}
    models = [{"model": ref.plain(), "parameters": {"weight": 1.0}} for ref in refs[has_base:]]
    method = "task_arithmetic" if has_base else "linear"
    return {"merge_method": method, **base, "models": models, "tokenizer": dict(tokenizer)}


def _found(recipe: Recipe, refs: Sequence[ModelRef], parents: Parents) -> OutputVocabulary:
    plan, words = make_plan(recipe, parents), vocabulary(recipe, parents)
    unchanged = []
    for ref in refs:
        heights = {
            parents[ref].tensors[origin.tensor].shape[0]
            for tensor in plan.tensors
            if tensor.rows is not None
            for origin in tensor.origins
            if origin.model == ref
        }
        stays = words.alignment is None or all(words.alignment.leaves_alone(ref, height) for height in heights)
        if stays and parents[ref].tokenizer == words.tokenizer:
            unchanged.append(str(ref))
    moved = [str(ref) for ref in refs if str(ref) not in unchanged]
    size, source = len(words.tokenizer.vocabulary), recipe.document["tokenizer"]["source"]
    rule = _rule_of(recipe)
    assert rule is not None
    already = "tokenizer: the parents have its vocabulary already, so that no row moves"
    return OutputVocabulary(
        document=recipe.document["tokenizer"],
        rule=rule,
        tokenizer=words.tokenizer,
        row_bytes=gathered_bytes(plan, parents),
        unchanged=tuple(unchanged),
        moved=tuple(moved),
        fact=f"{size} tokens, {'the union of all parents' if source == 'union' else f'those of {source}'}",
        notes=(*words.notes, *([already] if words.alignment is None else [])),
    )


def _rule_of(recipe: Recipe) -> VocabularyRule | None:
    """Return the tokenizer of a recipe, "base" spelled out."""
    rule = recipe.vocabulary
    return rule if rule is None or rule.source != "base" else replace(rule, source=recipe.config_source)
