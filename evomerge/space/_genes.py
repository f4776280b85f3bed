"""Genes: the parameters that vary, their grids, and the groups of tensors that share a value."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.errors import InvalidInput
from evomerge.methods import GRID
from evomerge.recipe import Setting, value_at
from evomerge.records import ParentSummary

MODULES = ("attention", "mlp", "rest")
NON_BLOCK = "embeddings and head"
STEPS = 10_000  # genes other than densities snap to 1/10000 of their range
_DECIMALS = 10  # of a value on that grid; more for ranges so narrow that steps would be rounded away
_TOLERANCE = 1e-9  # float noise of a range's ends


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """The tensors that share a value.

    Attributes:
        label: for people ("layer 3 mlp").
        pattern: the recipe filter that finds them; "": everything that no earlier group's filter found.
    """

    label: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """One parameter that varies: a real in [low, high] for each model (or one for all) and each group.

    Attributes:
        name: of the parameter.
        low: least value.
        high: greatest value, above `low`.
        start: where a search begins.
        models: indices of the space's models that have the parameter; empty: one value for the whole merge.
        shared_by_models: whether all of `models` share one value.
        groups: the tensors that share a value, or the knots.
        knots: > 0 makes the groups anchors of a gradient over depth instead of filters.
    """

    name: str
    low: float
    high: float
    start: float
    models: tuple[int, ...]
    shared_by_models: bool
    groups: tuple[TensorGroup, ...]
    knots: int = 0

    @property
    def columns(self) -> int:
        """Number of models with values of their own, at least 1."""
        return 1 if self.shared_by_models or not self.models else len(self.models)

    @property
    def size(self) -> int:
        """Number of coordinates of the unit cube."""
        return self.columns * len(self.groups)

    @property
    def levels(self) -> int:
        """Number of values on the gene's grid."""
        steps = self._density_steps()
        if steps is not None:
            return steps[1] - steps[0] + 1
        return STEPS + 1 if self.high > self.low else 1

    def snap(self, value: float) -> float:
        """Return the nearest value on the gene's grid, which lies inside its range.

        Densities snap to multiples of 1/1024, for which one pass over a tensor gives all thresholds. Where the range
        holds no such multiple, and for all other parameters, the grid is 1/10000 of the range.
        """
        steps = self._density_steps()
        if steps is not None:
            return min(steps[1], max(steps[0], round(value * GRID))) / GRID
        span = self.high - self.low
        if not span:
            return self.low
        step = min(STEPS, max(0, round((value - self.low) / span * STEPS)))
        decimals = max(_DECIMALS, 1 - math.floor(math.log10(span / STEPS)))
        return min(self.high, max(self.low, round(self.low + span * step / STEPS, decimals)))

    def _density_steps(self) -> tuple[int, int] | None:
        """Return the first and last multiple of 1/GRID in the range, or None: no density, or none lies in it."""
        if self.name != "density":
            return None
        first, last = math.ceil(self.low * GRID - _TOLERANCE), math.floor(self.high * GRID + _TOLERANCE)
        first = max(first, 1) if self.low > 0 else first
        return (first, last) if first <= last else None

    def value(self, coordinate: float) -> float:
        """Return the gene's value at a coordinate of the unit cube."""
        return self.snap(self.low + coordinate * (self.high - self.low))

    def coordinate(self, value: float) -> float:
        """Return the coordinate of a value: `value(coordinate(v)) == v` for every v on the grid."""
        span = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / span)) if span else 0.0

    def setting(self, values: Sequence[float]) -> Setting:
        """Return the values of all groups as a recipe's setting."""
        if self.knots:
            return list(values)
        if len(values) == 1 and not self.groups[0].pattern:
            return values[0]
        return [
            {**({"filter": group.pattern} if group.pattern else {}), "value": value}
            for group, value in zip(self.groups, values, strict=True)
        ]

    def read(self, setting: Setting) -> list[float]:
        """Return the value of each group that a recipe's setting holds (the inverse of `setting`).

        Raises:
            InvalidInput: a group has no value there or one outside the gene's range, or the setting divides the
                tensors in another way than the groups do.
        """
        values = self._knots(setting) if self.knots else self._by_group(setting)
        for value in values:
            if not self.low - _TOLERANCE <= value <= self.high + _TOLERANCE:
                raise InvalidInput(f"{self.name} is {value:g}, outside [{self.low:g}, {self.high:g}]")
        return values

    def _knots(self, setting: Setting) -> list[float]:
        if isinstance(setting, int | float):
            return [float(setting)] * self.knots
        if not isinstance(setting, Sequence) or len(setting) != self.knots or isinstance(setting[0], Mapping):
            raise InvalidInput(f"{self.name}: expected a list of {self.knots} numbers")
        return [float(value) for value in setting]

    def _by_group(self, setting: Setting) -> list[float]:
        patterns = {group.pattern for group in self.groups}
        for part in setting if isinstance(setting, list) else [setting]:
            conditional = isinstance(part, Mapping)
            pattern = part.get("filter") if conditional else None
            if pattern not in (None, "*") and pattern not in patterns:
                raise InvalidInput(f'{self.name}: the filter "{pattern}" is no group of this space')
            if isinstance(part["value"] if conditional else setting, list):
                raise InvalidInput(f"{self.name}: a gradient over depth is no point of this space")
        found = [value_at(setting, group.pattern or "-", 0.0) for group in self.groups]
        if None in found:
            raise InvalidInput(f"{self.name}: no value for {self.groups[found.index(None)].label}")
        return [float(value) for value in found if value is not None]


def groups_of(axes: Sequence[str], parent: ParentSummary) -> tuple[tuple[TensorGroup, ...], int]:
    """Return the groups that depth and module axes make, most specific first, and the number of knots.

    Args:
        axes: as in the space's YAML; "curve:K" stands for K knots over depth.
        parent: whose tensor names the groups' filters are made of.

    Returns:
        The groups, and the number of knots; 0: the groups are filters.
    """
    curve = next((axis for axis in axes if axis.startswith("curve:")), None)
    if curve is not None:
        knots = int(curve.partition(":")[2])
        return tuple(TensorGroup(f"knot {number + 1} of {knots}", "") for number in range(knots)), knots
    blocks = [f"{parent.block_prefix}{layer}." for layer in range(parent.num_layers)] if "layer" in axes else [""]
    parts = {"attention": parent.attention, "mlp": parent.mlp, "rest": ""}
    modules = MODULES if "module" in axes else ("rest",)
    groups = []
    for (layer, block), module in itertools.product(enumerate(blocks), modules):
        words = [f"layer {layer}"] if block else []
        words += [module] if len(modules) > 1 else []
        groups.append(TensorGroup(" ".join(words) or "all", block + parts[module]))
    if "layer" in axes:
        groups.append(TensorGroup(NON_BLOCK, ""))
    return tuple(groups), 0
