"""The text of a card for what is derived from models otherwise than by a merge recipe: adapters, mixtures."""

import re
from collections.abc import Sequence
from typing import Any

from evomerge.checkpoint._card import (
    Parent,
    _cell,
    _named,
    _short,
    front_matter,
)
from evomerge.recipe import looks_local


def derived_card(
    title: str,
    parents: Sequence[Parent],
    sections: Sequence[str],
    *,
    base: str | None,
    relation: str,
    library: str,
    tags: Sequence[str],
) -> str:
    """Return the card: front matter, parents with the digests of their weights, and sections of the caller's.

    Args:
        base: the model that the hub is to show as the base, in its `relation` ("merge", "adapter"); None = every
            parent. Local paths mean nothing to the hub and are left out.
        library: that loads the result, as the hub names it.
    """
    unique = list(dict.fromkeys(parents))
    licenses = {parent.license for parent in unique}
    ids = [re.split(r"[@+]", name)[0] for name in ([parent.name for parent in unique] if base is None else [base])]
    hub = list(dict.fromkeys(name for name in ids if not looks_local(name)))
    front: dict[str, Any] = {
        "base_model": hub or None,
        "base_model_relation": relation if hub else None,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": [*tags, "evomerge"],
        # If the parents' licenses differ, only a person can settle it.
        "license": (licenses.pop() if len(licenses) == 1 else None) or "other",
    }
    rows = [f"| {_named(p)} | {_cell(p.license or 'not stated')} | {_short(p.digest)} |" for p in unique]
    table = "\n".join(["## Parents", "", "| parent | license | SHA-256 of the weights |", "|---|---|---|", *rows])
    body = [f"# {_cell(title)}", *sections[:1], table, *sections[1:]]
    return front_matter(front) + "\n\n".join(body) + "\n"
