"""Parents as switches: which models take part in a merge, within a least and a greatest number."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from evomerge.errors import InvalidInput

ON, OFF = 0.75, 0.25  # of a real indicator, as it is encoded
_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How many of a space's models take part.

    Attributes:
        count: number of models.
        least: of those that take part.
        most: of those that take part.
        real: whether an indicator is a real, on from 0.5; else it is a choice of two.
    """

    count: int
    least: int
    most: int
    real: bool

    @property
    def start(self) -> tuple[bool, ...]:
        """All models, or the first ones where not all fit."""
        return tuple(number < self.most for number in range(self.count))

    def chosen(self, indicators: Sequence[float], ranks: Sequence[float]) -> list[int]:
        """Return the models that take part.

        Where too many are on, those with the highest ranks stay; where too few are, the highest of the others join
        them; of equal ranks the first.

        Args:
            indicators: of each model: a real, or 1 for on.
            ranks: of each model.
        """
        on = [number for number, value in enumerate(indicators) if value >= _THRESHOLD]
        best = sorted(range(self.count), key=lambda number: (-ranks[number], number))
        if len(on) > self.most:
            on = [number for number in best if number in on][: self.most]
        elif len(on) < self.least:
            on += [number for number in best if number not in on][: self.least - len(on)]
        return sorted(on)

    def check(self, number: int) -> None:
        """Check the number of models that a recipe has.

        Raises:
            InvalidInput: they are too few or too many.
        """
        if not self.least <= number <= self.most:
            raise InvalidInput(f"the recipe has {number} models, this space {self.least} to {self.most}")

    def sizes(self) -> list[tuple[int, int]]:
        """Return each number of models that may take part, and how many choices of so many there are."""
        return [(number, comb(self.count, number)) for number in range(self.least, self.most + 1)]
