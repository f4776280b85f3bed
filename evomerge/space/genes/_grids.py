"""The values that a gene may have: a grid over a range, or a list of options; and their coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.errors import InvalidInput
from evomerge.methods import GRID

STEPS = 10_000  # of a range, or of its logarithm; densities have 1/1024
_DECIMALS = 10  # of a value on that grid; more for ranges so narrow that steps would be rounded away
_DIGITS = 12  # of a value on a logarithmic grid
_TOLERANCE = 1e-9  # float noise of a range's ends

Option = float | int | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Reals in [low, high], a step apart on a linear or logarithmic scale.

    Attributes:
        low: least value.
        high: greatest value, not below `low`.
        log: whether steps are equal factors instead of equal differences; then `low` is above 0.
        density: whether values are multiples of 1/1024, for which one pass over a tensor gives all thresholds. Where
            the range holds none, the grid is that of other genes.
    """

    low: float
    high: float
    log: bool = False
    density: bool = False

    @property
    def levels(self) -> int:
        """Number of values."""
        steps = self._density_steps()
        if steps is not None:
            return steps[1] - steps[0] + 1
        return STEPS + 1 if self.high > self.low else 1

    @property
    def step(self) -> float:
        """The greatest distance of neighbors."""
        if self._density_steps() is not None:
            return 1 / GRID
        if self.log:
            return self.high * math.log(self.high / self.low) / STEPS
        return (self.high - self.low) / STEPS

    def snap(self, value: float) -> float:
        """Return the nearest value on the grid, which lies inside the range."""
        steps = self._density_steps()
        if steps is not None:
            return min(steps[1], max(steps[0], round(value * GRID))) / GRID
        span = self.high - self.low
        if not span:
            return self.low
        step = min(STEPS, max(0, round(self.coordinate(value) * STEPS)))
        if self.log:
            return min(self.high, max(self.low, float(f"{self.straight(step / STEPS):.{_DIGITS}g}")))
        decimals = max(_DECIMALS, 1 - math.floor(math.log10(span / STEPS)))
        return min(self.high, max(self.low, round(self.low + span * step / STEPS, decimals)))

    def _density_steps(self) -> tuple[int, int] | None:
        """Return the first and last multiple of 1/GRID in the range, or None: no density, or none lies in it."""
        if not self.density:
            return None
        first, last = math.ceil(self.low * GRID - _TOLERANCE), math.floor(self.high * GRID + _TOLERANCE)
        first = max(first, 1) if self.low > 0 else first
        return (first, last) if first <= last else None

    def straight(self, coordinate: float) -> float:
        """Return the value at a coordinate before it snaps; coordinates a little outside [0, 1] go on as inside."""
        if self.log:
            return self.low * math.exp(coordinate * math.log(self.high / self.low))
        return self.low + coordinate * (self.high - self.low)

    def value(self, coordinate: float) -> float:
        """Return the value at a coordinate of the unit cube."""
        return self.snap(self.straight(coordinate))

    def coordinate(self, value: float) -> float:
        """Return the coordinate of a value: `value(coordinate(v)) == v` for every v on the grid."""
        span = self.high - self.low
        if not span:
            return 0.0
        if self.log:
            return min(1.0, max(0.0, math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)))
        return min(1.0, max(0.0, (value - self.low) / span))

    def check(self, value: Option, name: str) -> float:
        """Return a value that a recipe gives.

        Raises:
            InvalidInput: it is no number, or outside the range.
        """
        if isinstance(value, str | bool):
            raise InvalidInput(f"{name} is {value}, expected a number")
        if not self.low - _TOLERANCE <= value <= self.high + _TOLERANCE:
            raise InvalidInput(f"{name} is {value:g}, outside [{self.low:g}, {self.high:g}]")
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A list of values, which coordinates count from 0.

    Attributes:
        values: each once.
        ordered: whether neighbors are alike, so that a coordinate is an integer; else it is a category.
    """

    values: tuple[Option, ...]
    ordered: bool

    @property
    def levels(self) -> int:
        """Number of values."""
        return len(self.values)

    def value(self, coordinate: float) -> Option:
        """Return the value of a number."""
        return self.values[int(coordinate)]

    def coordinate(self, value: Option) -> int:
        """Return the number of a value."""
        return self.values.index(value)

    def check(self, value: Option, name: str) -> Option:
        """Return a value that a recipe gives.

        Raises:
            InvalidInput: it is none of the options.
        """
        if value not in self.values:
            raise InvalidInput(f"{name} is {value}, which is none of {listed(self.values)}")
        return self.values[self.values.index(value)]


def listed(values: Sequence[Option]) -> str:
    """Return options in words, as YAML writes them."""
    return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values[:12])
