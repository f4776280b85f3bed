"""A recipe as plain data, and the fingerprint of what it means."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from evomerge.recipe._parameters import UnusedText
from evomerge.recipe._reference import ModelRef
from evomerge.recipe._schema import RecipeEntry
from evomerge.recipe._vocabulary import TokenRule


def document_of(entry: RecipeEntry) -> dict[str, Any]:
    """Return a recipe as plain data in the schema's order, without what was left at its default.

    Args:
        entry: a whole recipe file.
    """
    return {name: value for name, value in _plain(entry).items() if value is not None and value != {}}


def fingerprint_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical form: equal for recipes that mean the same, whatever their layout.

    Args:
        document: a recipe as plain data.
    """
    plain = json.dumps(_canonical(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()


def _plain(value: object) -> Any:
    """Turn schema objects back into plain data."""
    if isinstance(value, UnusedText):
        return str(value)
    if isinstance(value, ModelRef):
        return value.plain()
    if isinstance(value, TokenRule):
        return _plain_token(value)
    if isinstance(value, BaseModel):
        given = [name for name in type(value).model_fields if name in value.model_fields_set]
        return {name: _plain(getattr(value, name)) for name in given}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _plain_token(rule: TokenRule) -> dict[str, Any]:
    """Return a token's rule as it is written in a file."""
    source: Any = {"kind": "zero"} if rule.model is None else rule.model.plain()
    if rule.model is not None and rule.token is not None:
        key = "token" if isinstance(rule.token, str) else "token_id"
        source = {"kind": "model_token", "model": source, key: rule.token}
    return {"source": source, **({"force": True} if rule.force else {})}


def _canonical(value: object) -> Any:
    """Make equal what means the same: 1 and 1.0 (but not 1 and true), a missing key and one without a value."""
    if value.__class__ is float or value.__class__ is str:  # mostly, and this runs for every candidate
        return value
    if isinstance(value, Mapping):
        entries = ((str(key), _canonical(inner)) for key, inner in value.items() if key != "parents_in")
        return {key: inner for key, inner in entries if inner is not None and inner != {}}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
