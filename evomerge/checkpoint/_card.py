"""The text of a model card: what was merged or derived, how, and what it scored."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from evomerge.checkpoint._model import Model, card_facts
from evomerge.recipe import ModelRef, looks_local

_USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("OUT")
model = AutoModelForCausalLM.from_pretrained("OUT")
tokens = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**tokens, max_new_tokens=50)[0]))
```

OUT is this folder or its id on the hub."""
_DIGEST_CHARACTERS = 16  # of a SHA-256 in a table


class CardParent(NamedTuple):
    """A parent as a card names it.

    Attributes:
        name: as the user wrote it.
        license: that its own card states, or None.
        digest: SHA-256 of its weights, "" where that was not computed.
        commit: of the Hugging Face Hub, if it came from there.
        languages: that its own card states.
        datasets: that its own card states.
    """

    name: str
    license: str | None
    digest: str
    commit: str | None = None
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


class CardResult(NamedTuple):
    """One held-out score, as the hub lists it.

    Attributes:
        task: name of the benchmark.
        metric: name of the metric.
        value: in the metric's own direction.
        items: number of items.
    """

    task: str
    metric: str
    value: float
    items: int


def card_parents(models: Sequence[Model], *, digests: bool) -> list[CardParent]:
    """Return opened models as a card names them.

    Args:
        models: in the order of the card's table.
        digests: whether to state the digests of their weights, which reads every byte of them once more.
    """
    return [_card_parent(model, digests) for model in models]


def _card_parent(model: Model, digests: bool) -> CardParent:
    facts = card_facts(model.folder)
    digest = model.digest if digests else ""
    return CardParent(model.name, facts.license, digest, model.commit, facts.languages, facts.datasets)


def model_card(
    title: str,
    parents: Sequence[CardParent],
    recipe: str,
    sections: Sequence[str] = (),
    results: Sequence[CardResult] = (),
) -> str:
    """Return the card of a merge: front matter, parents, sections of the caller's, how to use it, and the recipe.

    Args:
        title: its heading.
        parents: the models that were merged; each is listed once.
        recipe: YAML text.
        sections: Markdown, placed between the table of parents and the recipe.
        results: held-out scores for the hub's list of evaluation results.
    """
    unique = list(dict.fromkeys(parents))
    front = {
        "base_model": _hub_ids([parent.name for parent in unique]) or None,
        "library_name": "transformers",
        **_stated_by(unique),
        "pipeline_tag": "text-generation",
        "tags": ["merge", "evomerge"],
        "base_model_relation": "merge",
        "model-index": _model_index(title, results) if results else None,
    }
    body = [
        f"# {_cell(title)}",
        "A merge made with evomerge. No weight was trained: every tensor is computed from the parents by the recipe.",
        _parents_table(unique),
        *sections,
        _USE,
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
        **_stated_by(unique),
    }
    body = [f"# {_cell(title)}", *sections[:1], _parents_table(unique), *sections[1:]]
    return _front_matter(front) + "\n\n".join(body) + "\n"


def _hub_ids(names: Sequence[str]) -> list[str]:
    """Return the hub ids among names of models and of their adapters, once each, without revisions."""
    found: list[str] = []
    for name in names:
        try:
            ref = ModelRef.parse(name)
        except ValueError:  # a path with signs of its own
            continue
        found += [part.path for part in (ref, ref.lora) if part is not None and not looks_local(part.path)]
    return list(dict.fromkeys(found))


def _stated_by(parents: Sequence[CardParent]) -> dict[str, Any]:
    """Return what the parents' own cards say of the result, None where they say nothing."""
    return {
        "license": _license(parents),
        "language": list(dict.fromkeys(code for parent in parents for code in parent.languages)) or None,
        "datasets": list(dict.fromkeys(name for parent in parents for name in parent.datasets)) or None,
    }


def _license(parents: Sequence[CardParent]) -> str | None:
    """Return the parents' license: the most restrictive one, where they differ.

    None where a parent states none, and "other" where two are as restrictive in ways of their own: only a person can
    settle that.
    """
    stated = {parent.license for parent in parents}
    if len(stated) == 1:
        return stated.pop()
    named = [name for name in stated if name is not None]
    if len(named) < len(stated):
        return None
    strictest = max(_strictness(name) for name in named)
    kept = [name for name in named if _strictness(name) == strictest]
    return kept[0] if len(kept) == 1 else "other"


def _strictness(license: str) -> int:
    """Return how much a license asks of a derived model: 0 = to be named, 1 = the same license, 2 = terms of use of
    its own, 3 = no commercial use."""
    name = license.lower()
    if "-nc" in name or "noncommercial" in name or "research" in name:
        return 3
    if name.startswith(
        ("apache", "mit", "bsd", "cc0", "cc-by-4", "cc-by-3", "isc", "unlicense", "wtfpl", "afl", "cdla-p")
    ):
        return 0
    return 1 if "-sa" in name or "gpl" in name else 2


def _model_index(title: str, results: Sequence[CardResult]) -> list[dict[str, Any]]:
    """Return evaluation results in the form that the hub reads."""
    entries = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": f"{result.task}, {result.items} held-out items", "type": result.task},
            "metrics": [{"type": result.metric, "value": round(result.value, 4), "name": result.metric}],
        }
        for result in results
    ]
    return [{"name": title, "results": entries}]


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
