"""M2N2: natural niches, after "Competition and Attraction Improve Model Fusion" (Abrantes 2025, arXiv 2508.16204).

An archive of points competes for items: what a point earns for an item is divided by what all of the archive earn
there, so that a point which alone answers an item is worth keeping whatever its mean (competition). A parent is drawn
by this fitness; its mate by where it is good and the parent is not, weighed by how few others are (attraction). Their
child mixes the two in proportions w and 1 - w on either side of a random coordinate; the weakest of all is dropped.

Where the code differs from the paper:
- The archive holds points, which spaces decode to recipes, not weights. Mixing points is mixing weights wherever they
  are linear in the point (task arithmetic, linear).
- Candidates of different generations are scored on different items: sums over an item are those of the members that
  were scored on it, times the size of the archive; a fitness is a mean over the items of the member.
- Reals get a little noise and choices a few changes: a small archive has no other way out of its own hull. (Expected
  accuracy after 2,000 candidates on a landscape of 24 reals, archive of 16: 0.52 with noise 0.02, 0.59 with 0.1.)
- Without item scores, the value itself is the one item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evomerge.optimizers.core import (
    GENERATION_SIZE,
    ItemValue,
    OptimizerSpec,
    OptionSpec,
    PendingProposals,
    Proposal,
    Vector,
    point_from_unit,
)
from evomerge.records import Domain, Point

EPSILON = 1e-6  # of an item that nobody answers


@dataclass(frozen=True, slots=True)
class _Member:
    """A scored point.

    Attributes:
        number: of its proposal.
        point: of the domain.
        value: its answer, higher is better.
        items: what it earned for each item; empty where only the value is known.
    """

    number: int
    point: Point
    value: float
    items: Mapping[str, ItemValue]


class M2n2Optimizer:
    """A steady-state genetic algorithm over points; `mean()` is None, as there is no distribution."""

    objectives = 1

    def __init__(self, domain: Domain, seed: int, start: Point | None, options: Mapping[str, Any]) -> None:
        """Start with an empty archive.

        Args:
            domain: what may be varied.
            seed: of every draw.
            start: the first proposal, or None.
            options: every option of `M2N2`.
        """
        self.name = M2N2.name
        self.generation_size: int = options["generation_size"]
        self._size: int = options["archive"]
        self._noise: float = options["noise"]
        self._domain = domain
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._pending = PendingProposals(domain, objectives=1)
        self._pending.inject([start] if start else [])
        self._open: dict[int, Point] = {}
        self._items: dict[int, Mapping[str, ItemValue]] = {}
        self._archive: list[_Member] = []

    def ask(self) -> Proposal:
        """Return an injected point, a random one until there are as many as the archive holds, or a child."""
        point = self._pending.next_injected()
        if point is None:
            first = self._pending.asked < self._size or len(self._archive) < 2
            point = point_from_unit(self._domain, self._random.random(self._domain.size)) if first else self._child()
        proposal = self._pending.propose(self._pending.asked // self.generation_size, point)
        self._open[proposal.number] = point
        return proposal

    def tell_items(self, number: int, items: Mapping[str, ItemValue]) -> None:
        """Take what an open proposal earned for each item, just before its `tell`."""
        self._pending.check_open(number)
        self._items[number] = dict(items)

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Let a scored point compete for a place in the archive; a failed one has none."""
        values = self._pending.close(number, values)
        point, items = self._open.pop(number), self._items.pop(number, {})
        if values is None:
            return
        self._archive.append(_Member(number, point, values[0], items))
        if len(self._archive) > self._size:
            fitness = self._fitness(*self._table())
            # ties drop the older one: where all values are equal, the archive must not stand still
            weakest = min(range(len(fitness)), key=lambda k: (fitness[k], self._archive[k].number))
            del self._archive[weakest]

    def _table(self) -> tuple[Vector, Vector, Vector]:
        """Return earnings (members, items), whether a member was scored there, and the items' weights in each row."""
        members = self._archive
        if any(not member.items for member in members):
            values = np.array([member.value for member in members])
            span = float(np.ptp(values))
            earned = (values - values.min()) / span if span > 0 else np.ones(len(values))
            return earned[:, None], np.ones((len(members), 1)), np.ones((len(members), 1))
        columns = {name: k for k, name in enumerate(dict.fromkeys(name for m in members for name in m.items))}
        earned, seen, weights = (np.zeros((len(members), len(columns))) for _ in range(3))
        for row, member in enumerate(members):
            at = [columns[name] for name in member.items]
            earned[row, at] = [max(item.value, 0.0) for item in member.items.values()]
            weights[row, at] = [item.weight for item in member.items.values()]
            seen[row, at] = 1.0
        return earned, seen, weights

    def _demand(self, earned: Vector, seen: Vector) -> Vector:
        """Return each item's capacity over the competition for it, (items,): c / (z + eps) of the paper."""
        competition = len(earned) * earned.sum(axis=0) / np.maximum(seen.sum(axis=0), 1.0)
        capacity: Vector = earned.max(axis=0)
        return capacity / (competition + EPSILON)

    def _fitness(self, earned: Vector, seen: Vector, weights: Vector) -> Vector:
        """Return each member's share of what there is to earn, (members,)."""
        total: Vector = (weights * seen * earned * self._demand(earned, seen)).sum(axis=1)
        return total / np.maximum((weights * seen).sum(axis=1), EPSILON)

    def _child(self) -> Point:
        """Return what two members of the archive have."""
        earned, seen, weights = self._table()
        first = self._drawn(self._fitness(earned, seen, weights))
        both = weights * seen * seen[first]
        better = (both * self._demand(earned, seen) * np.maximum(earned - earned[first], 0.0)).sum(axis=1)
        attraction = better / np.maximum(both.sum(axis=1), EPSILON)
        attraction[first] = 0.0
        if not attraction.any():
            attraction = np.ones(len(earned))
            attraction[first] = 0.0
        second = self._drawn(attraction)
        return self._mixed(self._archive[first].point, self._archive[second].point)

    def _drawn(self, shares: Vector) -> int:
        """Draw a member with probability proportional to its share."""
        total = shares.cumsum()
        if total[-1] <= 0:
            return int(self._random.integers(len(shares)))
        return min(int(np.searchsorted(total, self._random.random() * total[-1], side="right")), len(shares) - 1)

    def _mixed(self, first: Point, second: Point) -> Point:
        """Return w of one and 1 - w of the other before a random coordinate, the reverse after it, and some noise."""
        domain, random = self._domain, self._random
        split, share = int(random.integers(domain.size)), random.random()
        of_second = np.where(np.arange(domain.size) < split, share, 1.0 - share)
        a, b = (
            np.array([*point.reals, *point.integers, *point.categories], dtype=np.float64) for point in (first, second)
        )
        mixed = (1.0 - of_second) * a + of_second * b
        counts = np.array(domain.integers + domain.categories, dtype=np.float64)
        reals, numbers = domain.reals, domain.reals + len(domain.integers)
        mixed[:reals] += self._noise * random.standard_normal(reals)
        steps = random.standard_normal(numbers - reals) * self._noise * counts[: numbers - reals]
        mixed[reals:numbers] = np.rint(mixed[reals:numbers] + steps)
        mixed[numbers:] = np.where(random.random(domain.size - numbers) < of_second[numbers:], b[numbers:], a[numbers:])
        changed = random.random(domain.size - numbers) < self._noise
        drawn = np.floor(random.random(domain.size - numbers) * counts[numbers - reals :])
        mixed[numbers:] = np.where(changed, drawn, mixed[numbers:])
        whole = np.clip(mixed[reals:], 0, counts - 1).astype(int).tolist()
        return Point(
            reals=tuple(float(value) for value in np.clip(mixed[:reals], 0.0, 1.0)),
            integers=tuple(whole[: numbers - reals]),
            categories=tuple(whole[numbers - reals :]),
        )

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None


def create(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> M2n2Optimizer:
    """Build `m2n2`; `start` is the first proposal."""
    return M2n2Optimizer(domain, seed, start, options)


M2N2 = OptimizerSpec(
    name="m2n2",
    description="M2N2: an archive of points that compete for items; its fronts of specialists mix well",
    create=create,
    options=(
        OptionSpec(name="archive", kind=int, default=32, low=2, high=10_000, description="points that compete"),
        OptionSpec(
            name="noise",
            kind=float,
            default=0.05,
            low=0.0,
            high=1.0,
            description="standard deviation of reals, and share of choices, that a child changes; the paper has 0",
        ),
        GENERATION_SIZE,
    ),
    scalar=True,
    items=True,
)
