"""Which tokens of two tokenizers are the same: by their text, whatever each tokenizer's way of writing it."""

from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.checkpoint import Model, Tokenizer

SPECIAL_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")  # keys of a config


@dataclass(frozen=True, slots=True)
class TokenMatch:
    """Which row of a model each token of another tokenizer has.

    Attributes:
        rows: id of a token -> row of the same token in the model.
        by_role: those of `rows` that are the same only as beginning, end or padding of a text.
        new: id -> token, for tokens that the model does not have.
    """

    rows: Mapping[int, int]
    by_role: frozenset[int]
    new: Mapping[int, str]


def match_tokens(model: Model, source: Model, heights: tuple[int, int]) -> TokenMatch:
    """Match the tokens of `source` with those of `model`: first as they are written, then by bytes, then by role.

    Args:
        model: whose rows are looked for.
        source: whose tokens.
        heights: rows of the embeddings of `model` and of `source`; tokens beyond them mean nothing.

    Raises:
        MergeFailed: a tokenizer cannot be read.
    """
    known = {token: row for token, row in model.tokenizer.vocabulary.items() if row < heights[0]}
    spelled: dict[bytes, int] = {}
    for token, row in sorted(known.items(), key=lambda item: item[1], reverse=True):  # of equals the first id stays
        spelled[model.tokenizer.spelled(token)] = row
    rows: dict[int, int] = {}
    new: dict[int, str] = {}
    for token, number in source.tokenizer.vocabulary.items():
        if number >= heights[1]:
            continue
        same = known.get(token)
        if same is None and not _is_added(source.tokenizer, token):
            same = spelled.get(source.tokenizer.spelled(token))
        if same is None:
            new[number] = token
        else:
            rows[number] = same
    by_role: dict[int, int] = {}
    for key in SPECIAL_ROLES:
        own_row, number_there = (_first(owner.text_config.get(key, owner.config.get(key))) for owner in (model, source))
        if own_row is not None and number_there in new and own_row < heights[0]:
            by_role[number_there] = own_row
            del new[number_there]
    return TokenMatch(rows | by_role, frozenset(by_role), dict(sorted(new.items())))


def _is_added(tokenizer: Tokenizer, token: str) -> bool:
    """Tell whether a token is found in the text as it stands, such as <|im_start|>: it is the same only as text."""
    return bool(tokenizer.token(token).flags)


def _first(value: object) -> int | None:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else None
