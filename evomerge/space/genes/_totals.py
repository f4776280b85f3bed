"""A bound on what the values of all models add up to."""

from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.errors import InvalidInput
from evomerge.space.genes._grids import Grid

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Least and greatest sum of a gene's values over the models, in each group of tensors.

    Attributes:
        low: least sum; -infinity = no bound.
        high: greatest sum.
    """

    low: float
    high: float

    def kept(self, values: Sequence[float], grid: Grid) -> list[float]:
        """Return values whose sum is within the bounds, up to the grid: all are moved towards one end of the range.

        A sum that is too large by F is made right by values v -> low + (v - low) f with one f for all, so that values
        stay inside their range and keep their proportions above its low end; one that is too small, from the high end.

        Args:
            values: of all models that take part, on the grid.
            grid: of the gene.
        """
        total, count = sum(values), len(values)
        slack = self._slack(count, grid)
        if total > self.high + slack:
            factor = max(0.0, self.high - count * grid.low) / (total - count * grid.low)
            return [grid.snap(grid.low + (value - grid.low) * factor) for value in values]
        if total < self.low - slack:
            factor = max(0.0, count * grid.high - self.low) / (count * grid.high - total)
            return [grid.snap(grid.high - (grid.high - value) * factor) for value in values]
        return list(values)

    def check(self, values: Sequence[float], grid: Grid, name: str) -> None:
        """Check the values of a recipe.

        Raises:
            InvalidInput: their sum is outside the bounds by more than the grid explains.
        """
        slack = self._slack(len(values), grid)
        if not self.low - slack <= sum(values) <= self.high + slack:
            raise InvalidInput(f"the total of {name} is {sum(values):g}, outside [{self.low:g}, {self.high:g}]")

    @staticmethod
    def _slack(count: int, grid: Grid) -> float:
        """Return by how much snapping can move a sum, and float noise."""
        return count * grid.step + _TOLERANCE
