"""Which items belong together: questions on one passage are not independent, and intervals must know it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

ITEM_FIELD = "cluster"  # of an item of a Python scorer, or of a document

# Fields of documents that hold what several questions share, or the name of it, in the tasks of lm-eval.
_TEXT_FIELDS = (
    *("passage", "context", "article", "story", "paragraph", "premise", "document", "background", "support"),
    *("flores_passage", "passage_text", "ctx"),
)
_NAME_FIELDS = ("passage_id", "context_id", "article_id", "story_id", "paragraph_id", "document_id")
_MIN_CHARACTERS = 20  # of a shared text; shorter ones are labels
_MAX_SHARE = 0.5  # of all items; a text that more of them share is an instruction


def clusters_of(documents: Mapping[int, Any], *, by_field_only: bool = False) -> dict[int, str]:
    """Return item number -> name of its cluster, for items that share one with another item.

    The first field that an item shares with another decides: `cluster`, the name of a passage, then its text.

    Args:
        documents: item number -> its document; what is no mapping belongs to no cluster.
        by_field_only: whether only the field `cluster` counts.
    """
    found: dict[int, str] = {}
    fields = (ITEM_FIELD,) if by_field_only else (ITEM_FIELD, *_NAME_FIELDS, *_TEXT_FIELDS)
    for field in fields:
        keys = {
            number: key
            for number, document in documents.items()
            if number not in found and isinstance(document, Mapping) and (key := _key(document, field)) is not None
        }
        sizes = Counter(keys.values())
        most = len(documents) if field == ITEM_FIELD else _MAX_SHARE * len(documents)
        found |= {number: key for number, key in keys.items() if 1 < sizes[key] <= most}
    return found


def _key(document: Mapping[str, Any], field: str) -> str | None:
    """Return the name of the cluster that a field says a document belongs to, or None."""
    value = document.get(field)
    if value in (None, "") or (field in _TEXT_FIELDS and (not isinstance(value, str) or len(value) < _MIN_CHARACTERS)):
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    short = text if len(text) <= _MIN_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{field}:{short}"
