"""Item by item: what the pick gets right that the best parent does not, and the reverse."""

from collections.abc import Mapping
from typing import NamedTuple

from evomerge.records import Candidate, ItemScores, Objective, Pool
from evomerge.run.analysis._facts import REFERENCE_KINDS, RunFacts

EXAMPLES = 6  # items won, and as many lost, of each objective


class ItemOutcomes(NamedTuple):
    """One objective's items.

    Attributes:
        objective: its name.
        items: how many both were scored on.
        won: items on which the first has the higher value.
        lost: items on which it has the lower value.
        both_right: of 0/1 items, those that both get right; None for other metrics.
        both_wrong: of 0/1 items, those that neither does; None for other metrics.
        most_won: items with the largest gain, the largest first: number, the first's value, the other's value.
        most_lost: the same of losses.
    """

    objective: str
    items: int
    won: int
    lost: int
    both_right: int | None
    both_wrong: int | None
    most_won: tuple[tuple[int, float, float], ...]
    most_lost: tuple[tuple[int, float, float], ...]


class Outcomes(NamedTuple):
    """Two candidates, item by item.

    Attributes:
        first: the pick; where that is a reference, the best candidate of the search.
        other: the best parent; where the pick is a reference, that.
        pool: whose items they are.
        objectives: one entry each.
    """

    first: Candidate
    other: Candidate
    pool: Pool
    objectives: tuple[ItemOutcomes, ...]


def outcomes(facts: RunFacts) -> Outcomes | None:
    """Return the pick beside the best parent on the report items.

    Where a reference is the pick, the best candidate of the search is compared with it on the select items: why nothing
    that was found is better. None before there are scores of both.
    """
    first, other, pool = facts.pick, facts.best_parent, "report"
    if first is None:
        return None
    if first.kind in REFERENCE_KINDS:
        searched = [c for c in facts.of_kind("candidate", "mean") if "select" in c.scores]
        if not searched:
            return None
        first, other, pool = max(searched, key=lambda c: (facts.mean(c, "select") or 0.0, -c.id)), first, "select"
    if other is None or pool not in first.scores or pool not in other.scores:
        return None
    chosen: Pool = "report" if pool == "report" else "select"
    items = facts.run.items(chosen)
    rows = tuple(_of_objective(o, items[first.id], items[other.id]) for o in facts.objectives)
    return Outcomes(first, other, chosen, rows)


def _of_objective(
    objective: Objective, first: Mapping[str, ItemScores], other: Mapping[str, ItemScores]
) -> ItemOutcomes:
    theirs = dict(zip(other[objective.name].ids, other[objective.name].values, strict=True))
    own = first[objective.name]
    pairs = [(i, value, theirs[i]) for i, value in zip(own.ids, own.values, strict=True) if i in theirs]
    binary = {value for _, a, b in pairs for value in (a, b)} <= {0.0, 1.0}
    won = sorted((p for p in pairs if p[1] > p[2]), key=lambda p: (p[2] - p[1], p[0]))
    lost = sorted((p for p in pairs if p[1] < p[2]), key=lambda p: (p[1] - p[2], p[0]))
    return ItemOutcomes(
        objective=objective.name,
        items=len(pairs),
        won=len(won),
        lost=len(lost),
        both_right=sum(a == b == 1.0 for _, a, b in pairs) if binary else None,
        both_wrong=sum(a == b == 0.0 for _, a, b in pairs) if binary else None,
        most_won=tuple(won[:EXAMPLES]),
        most_lost=tuple(lost[:EXAMPLES]),
    )
