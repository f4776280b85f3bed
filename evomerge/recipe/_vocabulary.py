"""The tokenizer of a result: whose it is, and where the embeddings of single tokens come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.recipe._reference import ModelRef
from evomerge.recipe._validation import short_repr

MAX_TOKEN_ID = 2**31 - 1
SOURCES = ("union", "base")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """Where one token's rows of embedding and head come from.

    Attributes:
        model: whose rows; None = zeros.
        token: the token or its id there; None = the same token.
        force: whether the rows replace those of the parents that have the token.
    """

    model: ModelRef | None = None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyRule:
    """The tokenizer of the result.

    Attributes:
        source: "base" (the model that also gives the config), "union" (the base's plus what the others have beyond it)
            or a model.
        tokens: exceptions for single tokens.
        multiple: the number of rows is padded to a multiple of it; None = not padded.
    """

    source: str | ModelRef = "union"
    tokens: Mapping[str, TokenRule] = field(default_factory=dict)
    multiple: int | None = None


def read_source(value: object) -> str | ModelRef:
    """Read "union", "base" or a model.

    Args:
        value: what YAML gives.

    Raises:
        ValueError: it is none of them.
    """
    return value if isinstance(value, str) and value in SOURCES else ModelRef.parse(value)


def read_token(value: object) -> TokenRule:
    """Read {source: model}, {source: {kind: model_token, ...}} or {source: {kind: zero}}, each with force.

    Args:
        value: what YAML gives.

    Raises:
        ValueError: another form.
    """
    if isinstance(value, TokenRule):
        return value
    if not isinstance(value, Mapping) or not set(value) <= {"source", "force"}:
        raise ValueError(
            f"found {short_repr(value)}, expected {{source: a model or {{kind: ...}}, force: true or false}}"
        )
    force, source = value.get("force", False), value.get("source")
    if not isinstance(force, bool):
        raise ValueError(f"found force: {short_repr(force)}, expected true or false")
    if isinstance(source, Mapping) and "kind" in source:
        return _read_kind(source, force)
    return TokenRule(model=ModelRef.parse(source), force=force)


def _read_kind(source: Mapping[str, Any], force: bool) -> TokenRule:
    kind, rest = source["kind"], {key: value for key, value in source.items() if key != "kind"}
    if kind == "zero" and not rest:
        return TokenRule(force=force)
    if kind == "model_token" and "model" in rest and set(rest) - {"model"} in ({"token"}, {"token_id"}):
        token = rest.get("token", rest.get("token_id"))
        known = isinstance(token, str) if "token" in rest else type(token) is int and 0 <= token <= MAX_TOKEN_ID
        if known:
            return TokenRule(model=ModelRef.parse(rest["model"]), token=token, force=force)
    raise ValueError(
        f"found {short_repr(dict(source))}, expected {{kind: zero}} or {{kind: model_token, model: ..., token: ...}} "
        "(token_id: for a number from 0)"
    )
