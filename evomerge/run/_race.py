"""The race of finalists: who is clearly worse after a part of the select items is not scored on the rest.

Finalists and references are scored on a growing part of the select pool. After each part but the last, whoever is worse
than the one that leads, by a paired test, is out. The tests share one error: each of the (parts - 1) (candidates - 1)
tests that could drop the best candidate gets an equal part, so that the best one is dropped with a chance of at most
`ERROR` altogether, whatever leads. The verdict rests on report items alone, so a race makes no false claim likelier.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evomerge.records import Candidate, ItemScores, Objective, Pool
from evomerge.run._judgement import Clusters, Items
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import fitness, scale_factor, scores_of, values_of
from evomerge.stats import lower_end

ERROR = 0.05  # chance that the best finalist is dropped
LOOK_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the select items, after which losers are dropped
MIN_LOOK_ITEMS = 16  # of each objective: with fewer, only collapsed candidates would be seen
_STREAM = 0x5E1EC7  # of the run's seed: which items come first

Part = Mapping[str, tuple[int, ...]]  # objective -> ascending item ids


def parts_of(pool: Part, seed: int) -> list[Part]:
    """Return growing parts of a pool, each within the next; the last is the whole pool.

    Args:
        pool: objective -> item ids.
        seed: of the run.
    """
    mixed = {}
    for name, ids in pool.items():
        generator = np.random.default_rng([seed, _STREAM, zlib.crc32(name.encode())])
        mixed[name] = [int(item) for item in generator.permutation(ids)]
    parts: list[Part] = []
    for share in LOOK_SHARES:
        part = {name: tuple(sorted(ids[: round(share * len(ids))])) for name, ids in mixed.items()}
        if min(len(ids) for ids in part.values()) >= MIN_LOOK_ITEMS:
            parts.append(part)
    return [*parts, pool]


def missing_items(ledger: Ledger, candidate: Candidate, pool: Pool, items: Part) -> Part:
    """Return those of some items of a pool that a candidate was not scored on."""
    scores = candidate.scores.get(pool)
    if scores is None:
        return items
    if all(scores[name].n >= len(ids) for name, ids in items.items()):
        return {}
    known = ledger.items_of(candidate.id, pool)
    return {name: tuple(sorted(set(ids).difference(known[name].ids))) for name, ids in items.items()}


def within(items: Items, part: Part) -> Items:
    """Return the item scores of a part only."""
    found = {}
    for name, scores in items.items():
        wanted = frozenset(part[name])
        found[name] = scores.at([i for i, item in enumerate(scores.ids) if item in wanted])
    return found


def joined(first: Items, second: Items) -> Items:
    """Return the item scores of two disjoint sets of items as one, by ascending item id."""
    return {name: _joined(scores, second[name]) for name, scores in first.items()}


def _joined(first: ItemScores, second: ItemScores) -> ItemScores:
    def both(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if a is None or b is None else a + b

    parts = first.parts and second.parts and replace(first.parts, rows=first.parts.rows + second.parts.rows)
    together = ItemScores(
        ids=first.ids + second.ids,
        values=first.values + second.values,
        weights=both(first.weights, second.weights),
        soft=both(first.soft, second.soft),
        parts=parts,
    )
    return together.at(sorted(range(len(together.ids)), key=lambda i: together.ids[i]))


def survivors(
    objectives: Sequence[Objective], items: Mapping[int, Items], part: Part, *, error: float, clusters: Clusters
) -> list[int]:
    """Return who is not clearly worse than the leader, by id; whoever was not scored on the whole part is out.

    Args:
        objectives: all objectives.
        items: candidate -> its scores.
        part: the items that count.
        error: of one test.
        clusters: objective -> item -> its cluster.
    """
    items = {identity: within(found, part) for identity, found in items.items()}
    items = {i: found for i, found in items.items() if all(len(found[name].ids) == len(part[name]) for name in part)}
    means = {identity: fitness(objectives, values_of(scores_of(found)), {}) for identity, found in items.items()}
    if not means:
        return []
    leader = max(means, key=lambda identity: (means[identity], -identity))
    weights = {objective.name: objective.weight for objective in objectives}
    scale = {objective.name: scale_factor(objective) for objective in objectives}
    return [
        identity
        for identity, found in sorted(items.items())
        if identity == leader
        or lower_end(items[leader], found, weights, error=error, scale=scale, clusters=clusters) <= 0
    ]
