"""Who is re-scored once the search has ended, and who drops out of that early.

Finalists are the best candidates, the front, and averages that no candidate was. In the race, finalists and references
are scored on a growing part of the select pool. After each part but the last, whoever is worse than the one that leads,
by a paired test, is out. The tests share one error: each of the (parts - 1) (candidates - 1) tests that could drop the
best candidate gets an equal part, so that the best one is dropped with a chance of at most `ERROR` altogether, whatever
leads. The verdict rests on report items alone, so a race makes no false claim likelier.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from evomerge.errors import NothingScored
from evomerge.optimizers import GradientOptimizer, Optimizer
from evomerge.records import Candidate, ItemScores, Objective, Point, Pool
from evomerge.run._judgement import Clusters, Items
from evomerge.run._ledger import Ledger
from evomerge.run._objectives import exact_ones, fitness, scale_factor, scores_of, values_of
from evomerge.run._ranking import ADJUSTED, Ranking
from evomerge.run.config._setup import Setup
from evomerge.run.loop import SearchLoop
from evomerge.stats import lower_end

FINALISTS = "finalists"  # the ledger's fact: their ids
CONTROL_FINALISTS = "control_finalists"  # the ledger's fact: the best of the random control, as finalists are chosen
ERROR = 0.05  # chance that the best finalist is dropped
LOOK_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the select items, after which losers are dropped
MIN_LOOK_ITEMS = 16  # of each objective: with fewer, only collapsed candidates would be seen
_STREAM = 0x5E1EC7  # of the run's seed: which items come first

Part = Mapping[str, tuple[int, ...]]  # objective -> ascending item ids


def name_finalists(loop: SearchLoop, note: Callable[[str], None]) -> None:
    """Choose who is re-scored, once: the best by adjusted fitness, the adjusted front, and averages.

    Args:
        loop: whose search has ended.
        note: keeps a sentence for the user; called within a transaction of the ledger.

    Raises:
        NothingScored: no candidate has a score.
    """
    setup, ledger = loop.setup, loop.ledger
    if ledger.meta(FINALISTS) is not None:
        return
    candidates = ledger.candidates()
    scored = [known for known in candidates if known.state == "scored"]
    searched = [known.id for known in scored if known.kind == "candidate"]
    if not searched:
        raise NothingScored(f"{ledger.path.parent}: no candidate could be scored; see `evomerge front --all`")
    parents = [known.id for known in scored if known.kind == "parent"]
    ranking = Ranking(
        setup.objectives,
        ledger.items("search", soft=False),
        loop.state.floors,
        parents=parents if setup.entry.proof.ranking == "irt" else (),
    )
    count = setup.entry.proof.finalists
    best = ranking.ranked(searched)
    whole = ledger.meta("identity")["proof"].get("front")
    front = ranking.spread(searched, count) if whole else ranking.ranked(ranking.front(searched))[:count]
    finalists = list(dict.fromkeys([*best[:count], *front]))
    controls = [known.id for known in candidates if known.from_control]
    averages = Averages(setup, ledger)
    with ledger.transaction():
        finalists += [*averages.add_means(loop.optimizer), *averages.add_merges(front)]
        ledger.set_meta(CONTROL_FINALISTS, ranking.ranked(controls)[:count])
        if setup.entry.control is not None and not ranking.ranked(controls):
            note("no candidate of the random control could be scored, so the pick has no such rival")
        ledger.set_meta(ADJUSTED, {str(c): values for c, values in ranking.values.items()})
        ledger.set_meta(FINALISTS, finalists)
        ledger.set_meta("state", "proving")


class Averages:
    """Adds candidates that stand between others to the ledger."""

    def __init__(self, setup: Setup, ledger: Ledger):
        self._setup, self._ledger = setup, ledger

    def add_means(self, optimizer: Optimizer) -> list[int]:
        """Add the distribution mean as a candidate: it averages out the luck that single candidates had.

        Where the optimizer followed gradients before it evolved, the place where it ended is another one.
        """
        means = {"the distribution mean": optimizer.mean()}
        if isinstance(optimizer, GradientOptimizer):
            means["the mean of the ascent"] = optimizer.ascent_mean()
        found = [self._add(name, point) for name, point in means.items() if point is not None]
        return [identity for identity in found if identity is not None]

    def add_merges(self, front: Sequence[int]) -> list[int]:
        """Add merges of two members of the front, as far as they are wanted and no known recipe.

        Each is one merge of the original parents (see `evomerge.space._averages`).

        Args:
            front: its members; the first ones come first.
        """
        wanted = self._setup.entry.proof.merges
        averaged = getattr(self._setup.space, "averaged", None)
        if not wanted or averaged is None:
            return []
        points = {known.id: known.point for known in self._ledger.candidates() if known.point is not None}
        known, found = self._ledger.fingerprints(), list[int]()
        for a, b in combinations([member for member in front if member in points], 2):
            point = averaged([points[a], points[b]])
            added = None if point is None else self._add(f"the average of {a} and {b}", point, known)
            if added is not None:
                found.append(added)
            if len(found) == wanted:
                break
        return found

    def _add(self, name: str, point: Point, known: set[str] | None = None) -> int | None:
        """Add a candidate unless its recipe is among the known ones, which it joins."""
        document = self._setup.document(point)
        fingerprint = self._setup.recipe(document).fingerprint
        if known is not None:
            if fingerprint in known:
                return None
            known.add(fingerprint)
        return self._ledger.add(
            name=name,
            kind="mean",
            generation=-1,
            subset=-1,
            recipe=document,
            fingerprint=fingerprint,
            point=point,
        ).id


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
    exact = exact_ones(objectives)
    return [
        identity
        for identity, found in sorted(items.items())
        if identity == leader
        or lower_end(items[leader], found, weights, error=error, scale=scale, clusters=clusters, exact=exact) <= 0
    ]
