"""Which items a generation is scored on: shared by its candidates, another draw for the next generation."""

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.records import Pool
from evomerge.run.config._setup import REFERENCE_ITEMS

WHOLE_POOL = -1  # the subset number of the whole search pool
REFERENCE_SUBSET = -2  # the subset number of the items that references are scored on where subsets are small
CONTROL_SUBSET = -3  # the subset number of the items that all candidates of a random control are scored on
MAX_CACHED_SUBSETS = 64  # hundreds of workers are in as many as twenty generations at once


class Subsets:
    """Draws item subsets of the search pool; a subset is a function of the seed, its number and its size alone."""

    def __init__(
        self,
        pools: Mapping[str, Mapping[Pool, Sequence[int]]],
        size: int,
        policy: str,
        seed: int,
        changes: Sequence[tuple[int, int]] = (),
    ):
        """Prepare to draw.

        Args:
            pools: objective -> pool -> item ids.
            size: items per objective of one subset; smaller pools are taken whole.
            policy: "rotate" = another subset for each generation, "fixed" = one for all.
            seed: of the run.
            changes: (first subset number, size from there on), ascending.
        """
        self._pools, self._size, self._policy, self._seed = pools, size, policy, seed
        self.changes = list(changes)
        self._drawn: dict[int, dict[str, tuple[int, ...]]] = {}

    def number(self, generation: int) -> int:
        """Return the number of the subset that a generation is scored on."""
        return generation if self._policy == "rotate" else 0

    def size(self, number: int) -> int:
        """Return how many items per objective a subset has, where the pool has as many."""
        if number == REFERENCE_SUBSET:
            return REFERENCE_ITEMS
        position = bisect_right(self.changes, (number, 1 << 62))
        return self.changes[position - 1][1] if position else self._size

    def resize(self, first: int, size: int) -> None:
        """Give the subsets from a number on another size.

        Args:
            first: number of the first of them; none of them has been used yet.
            size: items per objective.
        """
        self.changes.append((first, size))

    def items(self, number: int) -> Mapping[str, tuple[int, ...]]:
        """Return objective -> ascending item ids of a subset; WHOLE_POOL is the whole search pool."""
        if number not in self._drawn:
            while len(self._drawn) >= MAX_CACHED_SUBSETS:
                self._drawn.pop(next(iter(self._drawn)))
            self._drawn[number] = (
                self.pool("search")
                if number == WHOLE_POOL
                else {name: self._draw(name, number) for name in self._pools}
            )
        return self._drawn[number]

    def _draw(self, name: str, number: int) -> tuple[int, ...]:
        ids, size = self._pools[name]["search"], self.size(number)
        # Seeded by name, so that adding a task does not change the other tasks' subsets.
        stream = number if number >= 0 else (1 << 32) + number
        generator = np.random.default_rng([self._seed, stream, zlib.crc32(name.encode())])
        return tuple(sorted(int(i) for i in generator.choice(ids, size=min(size, len(ids)), replace=False)))

    def pool(self, pool: Pool) -> dict[str, tuple[int, ...]]:
        """Return objective -> ascending item ids of a whole pool."""
        return {name: tuple(sorted(pools[pool])) for name, pools in self._pools.items()}
