"""Pools of a plain list of items: for Python scorers, and for evaluators of other packages."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.evaluation._evaluator import PrepareContext, PreparedTask
from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation.prepare._clusters import clusters_of
from evomerge.evaluation.prepare._pools import ITEMS, SplitPlan, cut_pools, shuffled, why_left_out, without_repeats
from evomerge.records import POOLS, Objective


def prepare_items(
    items: Sequence[Any],
    context: PrepareContext,
    *,
    objective: Objective,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    pack: Callable[[dict[int, Any]], Any] = lambda chosen: chosen,
    shuffle_name: str | None = None,
) -> PreparedTask:
    """Divide a list of items among the pools and return the prepared task.

    Items that are written the same way in JSON are kept once. Items with equal values of a field `cluster` belong
    together: intervals do not take them for independent.

    Args:
        items: plain data (what JSON can write); an item's number is its place in the list.
        context: with the wanted sizes of the pools and the seed.
        objective: see `PrepareContext.objective`.
        facts: what changes the meaning of a score besides the items, e.g. versions and settings.
        notes: sentences for the user.
        pack: from item number -> item, of the items in a pool, to `PreparedTask.items`; without, that mapping itself.
        shuffle_name: what the shuffle is seeded by, with the search's seed; None = the objective's task.

    Raises:
        InvalidTask: there are too few items, or one is no plain data.
    """
    keys = [_key(number, item) for number, item in enumerate(items)]
    kept = set(without_repeats({ITEMS: keys})[ITEMS])
    order = shuffled(len(items), context.seed, shuffle_name or objective.task)
    plan = SplitPlan(own=ITEMS, final=ITEMS)
    available = {ITEMS: [number for number in order if number in kept]}
    cut = cut_pools(plan, context.pools, available, why_left_out({ITEMS: keys}))
    pools = {pool: tuple(cut[pool]) for pool in POOLS}
    digests = {pool: hashlib.sha256("".join(keys[i] for i in pools[pool]).encode()).hexdigest() for pool in POOLS}
    own_facts = {
        "documents": {ITEMS: len(items)},
        "left_out": len(items) - len(kept),
        "splits": dict.fromkeys(POOLS, ITEMS),
        "items_digest": digests,
    }
    chosen = {i: items[i] for pool in POOLS for i in pools[pool]}
    return PreparedTask(
        objective=objective,
        pools=pools,
        facts={**(facts or {}), **own_facts},
        notes=(*notes, f"{objective.name} has a single set of items, divided among the pools"),
        items=pack(chosen),
        clusters=clusters_of(chosen, by_field_only=True),
    )


def _key(number: int, item: object) -> str:
    """Return a hash of an item's content."""
    try:
        return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise InvalidTask(
            f"its item {number} is no plain data ({error}); use numbers, texts, lists and mappings"
        ) from error


def read_items(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file of objects.

    Raises:
        InvalidTask: the file cannot be read, or a line is no JSON object; the text names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTask(f"its items cannot be read: {error}") from error
    items: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidTask(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(item, dict):
            raise InvalidTask(f"{path}, line {number}: is a {type(item).__name__}, expected an object")
        items.append(item)
    return items
