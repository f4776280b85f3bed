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
_NAME_FIELDS = (ITEM_FIELD, "passage_id", "context_id", "article_id", "story_id", "paragraph_id", "document_id")
_MIN_CHARACTERS = 20  # of a shared text; shorter ones are labels
_MAX_SHARE = 0.5  # of all items; a text that more of them share is an instruction


def clusters_of(documents: Mapping[int, Any], *, by_field_only: bool = False) -> dict[int, str]:
    """Return item number -> name of its cluster, for items that share one with another item.

    The first of these that an item has decides: a field `cluster`, the name of a passage, the text of a passage.

    Args:
        documents: item number -> its document; what is no mapping belongs to no cluster.
        by_field_only: whether only the field `cluster` counts.
    """
    found = {}
    for number, document in documents.items():
        if isinstance(document, Mapping) and (key := _key(document, by_field_only)) is not None:
            found[number] = key
    sizes = Counter(found.values())
    most = len(documents) if by_field_only else _MAX_SHARE * len(documents)
    return {
        number: key
        for number, key in found.items()
        if sizes[key] > 1 and (sizes[key] <= most or key.startswith(f"{ITEM_FIELD}:"))
    }


def _key(document: Mapping[str, Any], by_field_only: bool) -> str | None:
    """Return the name of a document's cluster; None if nothing says that it has one."""
    for field in (ITEM_FIELD,) if by_field_only else _NAME_FIELDS:
        if document.get(field) not in (None, ""):
            return f"{field}:{_short(document[field])}"
    for field in () if by_field_only else _TEXT_FIELDS:
        text = document.get(field)
        if isinstance(text, str) and len(text) >= _MIN_CHARACTERS:
            return f"{field}:{_short(text)}"
    return None


def _short(value: Any) -> str:
    """Return a value's text, or a digest of it where that is long."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _MIN_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()[:16]
