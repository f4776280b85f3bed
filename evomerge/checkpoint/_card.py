"""The text of a model card: what was merged, how, and what it scored."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from evomerge.checkpoint._model import Model
from evomerge.recipe import looks_local


class Parent(NamedTuple):
    """A parent as a card names it.

    digest: SHA-256 of its weights, "" where that was not computed. commit: of the hub, if it came from there.
    """

    name: str
    license: str | None
    digest: str
    commit: str | None = None


def parents_of(models: Sequence[Model], *, digests: bool) -> list[Parent]:
    """Return what a card says of opened models; `digests` reads every byte of them once more."""
    return [Parent(m.name, m.summary(digest=False).license, m.digest if digests else "", m.commit) for m in models]


def model_card(title: str, parents: Sequence[Parent], recipe: str, sections: Sequence[str] = ()) -> str:
    """Return the card: front matter with each parent once, then parents, sections of the caller's, and the recipe.

    recipe: YAML text. The license is the parents' if they agree, else "other", because only a person can settle it.
    """
    unique = list(dict.fromkeys(parents))
    licenses = {parent.license for parent in unique}
    license = licenses.pop() if len(licenses) == 1 else "other"
    ids = [re.split(r"[@+]", parent.name)[0] for parent in unique]
    hub = list(dict.fromkeys(name for name in ids if not looks_local(name)))
    front = {
        "base_model": hub or None,
        "library_name": "transformers",
        "license": license or "other",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "evomerge"],
        "base_model_relation": "merge" if hub else None,
    }
    rows = [f"| {_named(p)} | {_cell(p.license or 'not stated')} | {_short(p.digest)} |" for p in unique]
    body = [
        f"# {_cell(title)}",
        "A merge made with evomerge. No weight was trained: every tensor is computed from the parents by the recipe.",
        "\n".join(["## Parents", "", "| parent | license | SHA-256 of the weights |", "|---|---|---|", *rows]),
        *sections,
        f"## Recipe\n\nRebuild it with `evomerge merge recipe.yaml OUT`.\n\n```yaml\n{recipe.rstrip()}\n```",
    ]
    return front_matter(front) + "\n\n".join(body) + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the head of a card as the hub reads it: YAML between rules, without what is None.

    huggingface_hub has a class for this, but importing it would cost every merge a tenth of a second.
    """
    stated = {key: value for key, value in values.items() if value is not None}
    return f"---\n{yaml.safe_dump(stated, sort_keys=False, allow_unicode=True).strip()}\n---\n\n"


def _named(parent: Parent) -> str:
    return f"`{_cell(parent.name)}`" + (f" at commit `{_cell(parent.commit)}`" if parent.commit else "")


def _short(digest: str) -> str:
    return f"`{digest[:16]}`" if digest else "not computed"


def _cell(text: str) -> str:
    """Make foreign text harmless inside Markdown: no line breaks, table bars, HTML or terminal codes."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
