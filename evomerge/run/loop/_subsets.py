"""Which items a generation is scored on: shared by its candidates, another draw for the next generation."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.records import Pool

WHOLE_POOL = -1  # the subset number of the whole search pool
MAX_CACHED_SUBSETS = 64  # hundreds of workers are in as many as twenty generations at once


class Subsets:
    """Draws item subsets of the search pool; a subset is a function of the seed and its number alone."""

    def __init__(self, pools: Mapping[str, Mapping[Pool, Sequence[int]]], size: int, policy: str, seed: int):
        """Prepare to draw.

        Args:
            pools: objective -> pool -> item ids.
            size: items per objective of one subset; smaller pools are taken whole.
            policy: "rotate" = another subset for each generation, "fixed" = one for all.
            seed: of the run.
        """
        self._pools, self._size, self._policy, self._seed = pools, size, policy, seed
        self._drawn: dict[int, dict[str, tuple[int, ...]]] = {}

    def number(self, generation: int) -> int:
        """Return the number of the subset that a generation is scored on."""
        return generation if self._policy == "rotate" else 0

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
        ids = self._pools[name]["search"]
        # Seeded by name, so that adding a task does not change the other tasks' subsets.
        generator = np.random.default_rng([self._seed, number, zlib.crc32(name.encode())])
        return tuple(sorted(int(i) for i in generator.choice(ids, size=min(self._size, len(ids)), replace=False)))

    def pool(self, pool: Pool) -> dict[str, tuple[int, ...]]:
        """Return objective -> ascending item ids of a whole pool."""
        return {name: tuple(sorted(pools[pool])) for name, pools in self._pools.items()}
