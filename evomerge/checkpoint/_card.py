"""The text of a model card: what was merged or derived, how, and what it scored."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from evomerge.checkpoint._model import Model
from evomerge.recipe import looks_local

_DIGEST_CHARACTERS = 16  # of a SHA-256 in a table


class CardParent(NamedTuple):
    """A parent as a card names it.

    Attributes:
        name: as the user wrote it.
        license: that its own card states, or None.
        digest: SHA-256 of its weights, "" where that was not computed.
        commit: of the Hugging Face Hub, if it came from there.
    """

    name: str
    license: str | None
    digest: str
    commit: str | None = None


def card_parents(models: Sequence[Model], *, digests: bool) -> list[CardParent]:
    """Return opened models as a card names them.

    Args:
        models: in the order of the card's table.
        digests: whether to state the digests of their weights, which reads every byte of them once more.
    """
    return [CardParent(m.name, m.summary(digest=False).license, m.digest if digests else "", m.commit) for m in models]


def model_card(title: str, parents: Sequence[CardParent], recipe: str, sections: Sequence[str] = ()) -> str:
    """Return the card of a merge: front matter, parents, sections of the caller's, and the recipe.

    Args:
        title: its heading.
        parents: the models that were merged; each is listed once.
        recipe: YAML text.
        sections: Markdown, placed between the table of parents and the recipe.
    """
    unique = list(dict.fromkeys(parents))
    front = {
        "base_model": _hub_ids([parent.name for parent in unique]) or None,
        "library_name": "transformers",
        "license": _license(unique),
        "pipeline_tag": "text-generation",
        "tags": ["merge", "evomerge"],
        "base_model_relation": "merge",
    }
    body = [
        f"# {_cell(title)}",
        "A merge made with evomerge. No weight was trained: every tensor is computed from the parents by the recipe.",
        _parents_table(unique),
        *sections,
        f"## Recipe\n\nRebuild it with `evomerge merge recipe.yaml OUT`.\n\n```yaml\n{recipe.rstrip()}\n```",
    ]
    return _front_matter(front) + "\n\n".join(body) + "\n"


def derived_card(
    title: str,
    parents: Sequence[CardParent],
    sections: Sequence[str],
    *,
    base: str | None,
    relation: str,
    library: str,
    tags: Sequence[str],
) -> str:
    """Return the card of what is derived from models otherwise than by a merge recipe: an adapter, a mixture.

    Args:
        title: its heading.
        parents: the models that it was made of; each is listed once.
        sections: Markdown; the first is placed before the table of parents, the others after it.
        base: the model that the hub is to show as the base; None = every parent. Local paths mean nothing to the hub
            and are left out.
        relation: of the base to the result, as the hub names it ("merge", "adapter").
        library: that loads the result, as the hub names it.
        tags: for the hub, besides "evomerge".
    """
    unique = list(dict.fromkeys(parents))
    front = {
        "base_model": _hub_ids([parent.name for parent in unique] if base is None else [base]) or None,
        "base_model_relation": relation,
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": [*tags, "evomerge"],
        "license": _license(unique),
    }
    body = [f"# {_cell(title)}", *sections[:1], _parents_table(unique), *sections[1:]]
    return _front_matter(front) + "\n\n".join(body) + "\n"


def _hub_ids(names: Sequence[str]) -> list[str]:
    """Return the hub ids among names of models, once each, without revision and adapter."""
    ids = [re.split(r"[@+]", name)[0] for name in names]
    return list(dict.fromkeys(name for name in ids if not looks_local(name)))


def _license(parents: Sequence[CardParent]) -> str:
    """Return the parents' license if they agree, else "other", because only a person can settle it."""
    licenses = {parent.license for parent in parents}
    return (licenses.pop() if len(licenses) == 1 else None) or "other"


def _parents_table(parents: Sequence[CardParent]) -> str:
    rows = [f"| {_named(p)} | {_cell(p.license or 'not stated')} | {_short(p.digest)} |" for p in parents]
    return "\n".join(["## Parents", "", "| parent | license | SHA-256 of the weights |", "|---|---|---|", *rows])


def _front_matter(values: Mapping[str, Any]) -> str:
    """Return the head of a card as the hub reads it: YAML between rules, without what is None.

    A relation to a base is left out where there is no base. huggingface_hub has a class for this, but importing it
    would cost every merge a tenth of a second.
    """
    unknown_base = values["base_model"] is None
    stated = {k: v for k, v in values.items() if v is not None and not (unknown_base and k == "base_model_relation")}
    return f"---\n{yaml.safe_dump(stated, sort_keys=False, allow_unicode=True).strip()}\n---\n\n"


def _named(parent: CardParent) -> str:
    return f"`{_cell(parent.name)}`" + (f" at commit `{_cell(parent.commit)}`" if parent.commit else "")


def _short(digest: str) -> str:
    return f"`{digest[:_DIGEST_CHARACTERS]}`" if digest else "not computed"


def _cell(text: str) -> str:
    """Make foreign text harmless inside Markdown: no line breaks, table bars, HTML or terminal codes."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
