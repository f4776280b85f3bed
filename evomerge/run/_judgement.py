"""Who is the pick, and what may be claimed of it: arithmetic on scores, without a ledger or a model."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from evomerge.records import Candidate, ItemScores, Kind, Objective
from evomerge.run._objectives import (
    displayed_interval,
    displayed_value,
    exact_ones,
    fitness,
    floors_of,
    internal_value,
    scale_factor,
    scores_of,
    shortfall,
    values_of,
)
from evomerge.stats import (
    Comparator,
    Comparison,
    FloorCheck,
    Interval,
    McNemar,
    Verdict,
    interval_of,
    mcnemar,
    paired_interval,
    score_of,
    verdict,
)

REFERENCE_KINDS: tuple[Comparator, ...] = ("parent", "simple", "control")
_WHAT: Mapping[Kind, str] = {"parent": "parent", "simple": "simple merge", "control": "start recipe"}
_OF_CONTROL = "best of a random search with as many items"
_EQUAL = 1e-9  # a value this little below its floor differs by rounding alone

Items = Mapping[str, ItemScores]  # objective -> item scores
Clusters = Mapping[str, Mapping[int, Hashable]]  # objective -> item -> its cluster


class Choice(NamedTuple):
    """The pick of a run.

    Attributes:
        pick: its id.
        meets_floors: whether its select scores reach every floor.
    """

    pick: int
    meets_floors: bool


def choose_pick(
    objectives: Sequence[Objective],
    values: Mapping[int, Mapping[str, float]],
    kinds: Mapping[int, Kind],
    floors: Mapping[str, float],
) -> Choice:
    """Choose the best of finalists, means and references by their select scores.

    Those that meet every floor come before all others; if none does, the smallest shortfall does. Then the weighted
    mean decides, and of equal ones a reference: nothing new is worth having that is no better.

    Args:
        objectives: all objectives.
        values: who may be the pick -> objective -> internal value on the select pool.
        kinds: what each of them is.
        floors: objective -> internal floor.
    """
    means = {identity: fitness(objectives, found, {}) for identity, found in values.items()}
    missed = {identity: shortfall(objectives, found, floors) for identity, found in values.items()}
    pick = min(values, key=lambda i: (missed[i], -means[i], kinds[i] not in REFERENCE_KINDS, i))
    return Choice(pick=pick, meets_floors=missed[pick] == 0)


def judge(
    objectives: Sequence[Objective],
    items: Mapping[int, Items],
    candidates: Mapping[int, Candidate],
    pick: int,
    rivals: Sequence[int],
    *,
    seed: int,
    relative_floors: Mapping[str, Sequence[Any]] | None = None,
    clusters: Clusters | None = None,
    left_out: Sequence[int] = (),
    resamples: int = 10_000,
) -> Verdict:
    """Compare the pick with references on the report pool, item by item.

    Args:
        objectives: all objectives.
        items: candidate -> its item scores of the report pool.
        candidates: id -> the pick, the rivals and the parents of relative floors.
        pick: who is judged.
        rivals: references that it is compared with; itself and those without items are passed over.
        seed: of the resampling.
        relative_floors: objective -> (parent, distance below its score in the metric's own units).
        clusters: objective -> item -> its cluster; items that belong together are resampled together.
        left_out: rivals that cannot be compared.
        resamples: of each interval.
    """
    relative, comparisons = relative_floors or {}, []
    for rival in rivals:
        candidate = candidates[rival]
        if rival == pick or rival not in items or candidate.kind not in REFERENCE_KINDS:
            continue
        interval = gain_of(objectives, items[pick], items[rival], clusters, seed=seed, resamples=resamples)
        comparisons.append(
            Comparison(
                id=rival,
                kind=candidate.kind,
                name=candidate.name,
                what=what_of(candidate),
                interval=interval,
                mcnemar=_exact_test(objectives, items[pick], items[rival], clusters),
            )
        )
    parents = {c.name: items[i] for i, c in candidates.items() if c.kind == "parent" and i in items}
    return verdict(
        comparisons,
        floors=_floor_checks(objectives, items[pick], parents, relative, clusters or {}, seed),
        unchecked=_unchecked(relative, parents),
        kept=_described(candidates[pick]) if candidates[pick].kind in REFERENCE_KINDS else None,
        left_out=[_described(candidates[rival]) for rival in left_out],
        unknown=any(_may_be_better(candidates[rival]) for rival in left_out),
        fit=_fit(objectives, {rival: items[rival] for rival in rivals if rival in items}, parents, relative),
    )


def what_of(candidate: Candidate) -> str:
    """Return what a candidate is, in words."""
    return _OF_CONTROL if candidate.from_control else _WHAT.get(candidate.kind, "candidate")


def _described(candidate: Candidate) -> str:
    own = candidate.kind == "control" and not candidate.from_control
    what = "your own start recipe" if own else what_of(candidate)
    return f"{candidate.name} ({what}, candidate {candidate.id})"


def gain_of(
    objectives: Sequence[Objective],
    a: Items,
    b: Items,
    clusters: Clusters | None,
    *,
    seed: int,
    resamples: int = 10_000,
) -> Interval:
    """Return the gain of one candidate over another in the weighted mean of the scaled objectives.

    Args:
        objectives: all objectives.
        a: its item scores.
        b: the other's, on the same items.
        clusters: objective -> item -> its cluster; items that belong together are resampled together.
        seed: of the resampling.
        resamples: how many.
    """
    return paired_interval(
        a,
        b,
        {o.name: o.weight for o in objectives},
        seed=seed,
        scale={o.name: scale_factor(o) for o in objectives},
        clusters=clusters,
        same_items={o.name: o.task for o in objectives},
        exact=exact_ones(objectives),
        resamples=resamples,
    )


def _exact_test(objectives: Sequence[Objective], a: Items, b: Items, clusters: Clusters | None) -> McNemar | None:
    """Return McNemar's test where it applies: one objective of independent 0/1 items that count the same."""
    if len(objectives) != 1:
        return None
    name = objectives[0].name
    first, second = a[name], dict(zip(b[name].ids, b[name].values, strict=True))
    binary = {*first.values, *second.values()} <= {0.0, 1.0}
    if first.parts is not None or not binary or len(set(first.weights or (1.0,))) > 1 or (clusters or {}).get(name):
        return None
    return mcnemar(first.values, [second[item] for item in first.ids])


def _may_be_better(candidate: Candidate) -> bool:
    """Tell whether a reference that could not be compared may be a good model.

    One that has scores of another pool is sane. Of the others, parents are taken for sane unless their own weights or
    answers show the opposite; a simple merge that nothing could be scored of is taken for collapsed.
    """
    failure = candidate.failure
    return bool(candidate.scores) or (
        candidate.kind == "parent" and (failure is None or failure.kind in ("failed", "lost"))
    )


def _fit(
    objectives: Sequence[Objective],
    items: Mapping[int, Items],
    parents: Mapping[str, Items],
    relative: Mapping[str, Sequence[Any]],
) -> list[int]:
    """Return those of some candidates whose scores meet every floor that is known."""
    values = {identity: values_of(scores_of(found)) for identity, found in items.items()}
    floors = floors_of(objectives, relative, {name: values_of(scores_of(found)) for name, found in parents.items()})
    return [identity for identity, found in values.items() if shortfall(objectives, found, floors) <= _EQUAL]


def _unchecked(relative: Mapping[str, Sequence[Any]], parents: Collection[str]) -> list[str]:
    """Return, in words, the floors below a parent that has no scores."""
    return [
        f"{name}, as its parent {parent} could not be scored"
        for name, (parent, _) in relative.items()
        if parent not in parents
    ]


def _floor_checks(
    objectives: Sequence[Objective],
    items: Items,
    parents: Mapping[str, Items],
    relative: Mapping[str, Sequence[Any]],
    clusters: Clusters,
    seed: int,
) -> list[FloorCheck]:
    """Return how the pick stands to each floor on the report pool."""
    found = []
    for objective in objectives:
        parent, minus = relative.get(objective.name, (None, 0.0))
        own = items[objective.name]
        if parent in parents:
            value, low, high, floor = _relative(objective, items, parents[parent], minus, clusters, seed)
        elif objective.floor is not None:
            interval = interval_of(own, cluster_of=clusters.get(objective.name), exact=objective.exact)
            value, low, high = interval.value, interval.low, interval.high
            floor = internal_value(objective, objective.floor)
        else:
            continue
        ends = displayed_interval(objective, low, high)
        found.append(
            FloorCheck(
                objective=objective.name,
                floor=displayed_value(objective, floor),
                value=displayed_value(objective, value),
                low=ends[0],
                high=ends[1],
                level=0.95,
                met=value >= floor - _EQUAL,
                proven=low >= floor - _EQUAL,
            )
        )
    return found


def _relative(
    objective: Objective, items: Items, parent: Items, minus: float, clusters: Clusters, seed: int
) -> tuple[float, float, float, float]:
    """Return internal value, lower and upper end, and floor, where the floor is a parent's score less something."""
    name = objective.name
    own, reached = (score_of(scores[name]).value for scores in (items, parent))
    displayed = displayed_value(objective, reached)
    floor = internal_value(objective, displayed - minus if objective.direction == "max" else displayed + minus)
    if items[name] == parent[name]:
        return own, own, own, floor
    exact = exact_ones([objective])
    paired = paired_interval(items, parent, {name: 1.0}, seed=seed, clusters=clusters, exact=exact)
    return own, reached + paired.low, reached + paired.high, floor


def verdict_plain(result: Verdict) -> dict[str, Any]:
    """Return a verdict as the plain data that `front --json` shows."""
    comparisons: list[dict[str, Any]] = []
    for c in result.comparisons:
        row: dict[str, Any] = {"id": c.id, "kind": c.kind, "name": c.name, "gain": c.interval.gain}
        row["interval"] = [c.interval.low, c.interval.high]
        if c.mcnemar is not None:
            row["mcnemar"] = {"wins": c.mcnemar.wins, "losses": c.mcnemar.losses, "p_value": c.mcnemar.p_value}
        comparisons.append(row)
    front = [
        {
            "id": claim.id,
            "name": claim.name,
            "gain": claim.gain,
            "interval": None if claim.low is None else [claim.low, claim.high],
            "p_value": claim.p_value,
            "adjusted_p_value": claim.adjusted,
            "claimed": claim.claimed,
        }
        for claim in result.front
    ]
    return {
        "gain": result.gain,
        "interval": None if result.low is None else [result.low, result.high],
        "claimed": result.claimed,
        "text": result.text,
        "comparisons": comparisons,
        "floors": [
            {
                "objective": floor.objective,
                "floor": floor.floor,
                "value": floor.value,
                "interval": [floor.low, floor.high],
                "met": floor.met,
            }
            for floor in result.floors
        ],
        "keep": result.keep,
        **({"front": front} if front else {}),
    }
