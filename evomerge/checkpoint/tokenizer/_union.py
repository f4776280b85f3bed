"""A tokenizer.json with the tokens of other models in it.

The base encodes its own text as before, because every parent was trained more on the base's tokens than the base was
on the others': of another BPE tokenizer's merges only those are taken that begin from a symbol which the base does
not have, and a Unigram token that the base can spell gets a score that never wins. So text in the base's alphabet is
encoded as the base does, and what the base could only encode in bytes or as unknown is encoded as the other model does.
Added tokens (<|im_start|>) are found before any of this; word lists (WordLevel, WordPiece) are extended.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Merge = tuple[str, str]

_SPELLED_PENALTY = 1.0  # of a score; less than what the library takes off for an unknown character


class NewToken(NamedTuple):
    """A token that another model's tokenizer has.

    Attributes:
        content: its text.
        flags: how an added token is matched (special, lstrip, ...), as in tokenizer.json; None = an ordinary token.
        score: of a Unigram token.
    """

    content: str
    flags: tuple[tuple[str, Any], ...] | None = None
    score: float | None = None


def vocabulary_of(content: Mapping[str, Any]) -> dict[str, int]:
    """Return token -> id, added tokens included.

    Args:
        content: what tokenizer.json holds.
    """
    vocab = content["model"]["vocab"]
    known = {token: i for i, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    return {**known, **{token["content"]: token["id"] for token in content.get("added_tokens", [])}}


def merges_of(content: Mapping[str, Any]) -> list[Merge]:
    """Return the merges of a BPE tokenizer in their order; none for other kinds.

    Args:
        content: what tokenizer.json holds.

    Raises:
        ValueError: they are no pairs of texts.
    """
    merges = content["model"].get("merges") or ()
    found = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    if not all(isinstance(part, str) for merge in found for part in merge):
        raise ValueError("its merges hold something other than text")
    return [(left, right) for left, right in found]


def usable_merges(content: Mapping[str, Any], added: Sequence[NewToken], merges: Iterable[Merge]) -> list[Merge]:
    """Return those of other tokenizers' merges that can happen and do not change how the base encodes its text.

    Args:
        content: the base's tokenizer.json.
        added: the tokens that it gets.
        merges: of the other tokenizers, in their order.
    """
    if content["model"].get("type") != "BPE":
        return []
    prefix = content["model"].get("continuing_subword_prefix") or ""
    base = vocabulary_of(content)
    wanted = {token.content for token in added if token.flags is None}
    known = set(base) | {token for token in wanted if len(token) == 1}
    kept: dict[Merge, None] = {}
    for left, right in merges:
        whole = left + right.removeprefix(prefix)
        if left in known and right in known and whole in wanted and not (left in base and right in base):
            kept[left, right] = None
            known.add(whole)
    return list(kept)


def unreachable(content: Mapping[str, Any], added: Sequence[NewToken], merges: Iterable[Merge]) -> list[str]:
    """Return the ordinary new tokens that no text is encoded to.

    Args:
        content: the base's tokenizer.json.
        added: the tokens that it gets.
        merges: of the other tokenizers, in their order.
    """
    model = content["model"]
    ordinary = [token.content for token in added if token.flags is None]
    if model.get("type") == "BPE" and not model.get("ignore_merges"):
        prefix = model.get("continuing_subword_prefix") or ""
        made = {left + right.removeprefix(prefix) for left, right in usable_merges(content, added, merges)}
        return [token for token in ordinary if len(token) > 1 and token not in made]
    if isinstance(model["vocab"], list):
        letters = _letters(model["vocab"])
        return [token for token in ordinary if letters.issuperset(token)]
    return []


def extended(
    content: Mapping[str, Any], vocabulary: Mapping[str, int], added: Sequence[NewToken], merges: Iterable[Merge]
) -> dict[str, Any]:
    """Return tokenizer.json with new tokens.

    Every token, the added ones too, goes into the model's own vocabulary: the library numbers added tokens that it
    does not find there by itself.

    Args:
        content: the base's tokenizer.json.
        vocabulary: token -> id of the result.
        added: the new tokens.
        merges: of the other tokenizers, in their order.
    """
    model = dict(content["model"])
    by_id = sorted(vocabulary.items(), key=lambda item: item[1])
    if isinstance(model["vocab"], list):
        model["vocab"] = _unigram(model["vocab"], by_id, added)
    else:
        model["vocab"] = dict(by_id)
    extra = usable_merges(content, added, merges)
    if extra:
        old = model.get("merges") or []
        as_text = bool(old) and isinstance(old[0], str)
        model["merges"] = [*old, *(" ".join(merge) if as_text else list(merge) for merge in extra)]
    entries = list(content.get("added_tokens", []))
    entries += [{"id": vocabulary[t.content], "content": t.content, **dict(t.flags)} for t in added if t.flags]
    return {**content, "model": model, "added_tokens": sorted(entries, key=lambda entry: entry["id"])}


def _unigram(
    vocab: Sequence[Sequence[Any]], by_id: Sequence[tuple[str, int]], added: Sequence[NewToken]
) -> list[list[Any]]:
    """Return a Unigram vocabulary, in which a token's position is its id; unused ids get a name that no text has."""
    lowest = min((float(score) for _, score in vocab), default=0.0)
    letters = _letters(vocab)
    scores = {token.content: token.score for token in added}
    entries = [[f"<unused-id-{i}>", lowest] for i in range(by_id[-1][1] + 1)]
    for token, number in by_id:
        if number < len(vocab):
            score = float(vocab[number][1])
        elif letters.issuperset(token):
            score = min(lowest, 0.0) * len(token) - _SPELLED_PENALTY  # below its letters one by one
        else:
            own = scores.get(token)
            score = lowest if own is None else own
        entries[number] = [token, score]
    return entries


def _letters(vocab: Sequence[Sequence[Any]]) -> set[str]:
    """Return the characters that a Unigram vocabulary can spell with."""
    return {token for token, _ in vocab if len(token) == 1}
