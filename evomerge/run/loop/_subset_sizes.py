"""How many items a candidate is scored on where the search file leaves that to the program.

Few items and many candidates find more than the reverse, as long as a generation's ranking says anything. Whether it
does is seen without any further item: the candidates of a generation are ranked by one half of their items and by the
other, and the correlation of the two halves, averaged over generations, is the agreement. Low agreement means that the
differences have become smaller than their noise, and the next subsets are larger.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evomerge.run.loop._subsets import Subsets

ASCENT_ITEMS = 8  # per objective and step, where gradients are followed
FIRST_ITEMS = 16  # per objective and candidate, at the beginning of an evolution
MIN_ITEMS, MAX_ITEMS = 8, 128
LOW_AGREEMENT, HIGH_AGREEMENT = 0.15, 0.4  # correlations below which subsets grow, and above which they shrink
GROWTH, SHRINKAGE = 1.15, 1 / 1.1
MEMORY = 0.8  # share of the running mean that stays when a generation is added
FIRST_AGREEMENT = 0.3
MIN_CANDIDATES = 4  # of a generation, for a correlation of its halves

Halves = tuple[float, float]
"""A candidate's value on one half of its items, and on the other."""


class SubsetSizes:
    """Chooses the size of each generation's subset. What it goes by is plain data, kept in the ledger."""

    def __init__(self, subsets: Subsets, stored: dict[str, Any]):
        """Continue.

        Args:
            subsets: whose sizes are chosen.
            stored: what `plain` returned in an earlier session, or nothing.
        """
        self._subsets = subsets
        self._items = float(stored.get("items", FIRST_ITEMS))
        self._agreement = float(stored.get("agreement", FIRST_AGREEMENT))
        self._latest = int(stored.get("generation", -1))
        self._halves: dict[int, list[Halves]] = {
            int(generation): [(first, second) for first, second in pairs]
            for generation, pairs in stored.get("halves", {}).items()
        }
        self._open: dict[int, int] = {int(g): count for g, count in stored.get("open", {}).items()}

    def plain(self) -> dict[str, Any]:
        """Return what `SubsetSizes` needs to continue, as JSON can hold it."""
        return {
            "changes": self._subsets.changes,
            "items": self._items,
            "agreement": self._agreement,
            "generation": self._latest,
            "halves": {str(g): pairs for g, pairs in self._halves.items()},
            "open": {str(g): count for g, count in self._open.items()},
        }

    def ask(self, generation: int, *, gradient: bool) -> None:
        """Note a proposal, before its subset is drawn.

        Args:
            generation: of the proposal.
            gradient: whether its gradient is wanted.
        """
        if generation > self._latest:
            self._latest = generation
            size = ASCENT_ITEMS if gradient else max(MIN_ITEMS, min(MAX_ITEMS, round(self._items)))
            if self._subsets.size(generation) != size or not self._subsets.changes:
                self._subsets.resize(generation, size)
        if not gradient:
            self._open[generation] = self._open.get(generation, 0) + 1
            self._learn()

    def finish(self, generation: int, halves: Halves | None) -> None:
        """Note the answer of a proposal that was no gradient's.

        Args:
            generation: of the proposal.
            halves: its value on either half of the items, None if it has none.
        """
        if generation not in self._open:
            return
        self._open[generation] -= 1
        if halves is not None:
            self._halves.setdefault(generation, []).append(halves)

    def _learn(self) -> None:
        """Take in the generations that are complete: all answered, and a later one begun."""
        for generation in [g for g, count in self._open.items() if count == 0 and g < self._latest]:
            del self._open[generation]
            agreement = agreement_of(self._halves.pop(generation, []))
            if agreement is None:
                continue
            self._agreement = MEMORY * self._agreement + (1 - MEMORY) * agreement
            if self._agreement < LOW_AGREEMENT:
                self._items = min(float(MAX_ITEMS), self._items * GROWTH)
            elif self._agreement > HIGH_AGREEMENT:
                self._items = max(float(MIN_ITEMS), self._items * SHRINKAGE)


def agreement_of(halves: Sequence[Halves]) -> float | None:
    """Return the correlation of two halves of the items over a generation's candidates; None for too few of them."""
    if len(halves) < MIN_CANDIDATES:
        return None
    first, second = np.array(halves, dtype=np.float64).T
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
