"""From a gene's axes to its groups: the tensors that share one value, said in a recipe's own words."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.methods import GRID
from evomerge.recipe import Setting, value_at
from evomerge.records import ParentSummary

MODULES = ("attention", "mlp", "rest")
LOOSE = "embeddings and head"
STEPS = 10_000  # genes other than densities snap to 1/10000 of their range


@dataclass(frozen=True, slots=True)
class Group:
    """The tensors that share a value. pattern: the filter that finds them; "" = everything not found before."""

    label: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """One parameter that varies: a real in [low, high] for each model (or one for all) and each group.

    models: indices into the space's models that have their own value; empty = one value for the whole merge.
    knots: > 0 makes the groups anchors of a gradient over depth instead of filters.
    """

    name: str
    low: float
    high: float
    start: float
    models: tuple[int, ...]
    shared_by_models: bool
    groups: tuple[Group, ...]
    knots: int = 0

    @property
    def columns(self) -> int:
        """Number of models with values of their own, at least 1."""
        return 1 if self.shared_by_models or not self.models else len(self.models)

    @property
    def size(self) -> int:
        """Number of coordinates of the unit cube."""
        return self.columns * len(self.groups)

    def snap(self, value: float) -> float:
        """Return the nearest value on the gene's grid: 1/1024 for densities, 1/10000 of the range for others."""
        if self.name == "density":
            low, high = math.ceil(self.low * GRID - 1e-9), math.floor(self.high * GRID + 1e-9)
            return min(high, max(low, round(value * GRID))) / GRID
        span = self.high - self.low
        step = round((value - self.low) / span * STEPS) if span else 0
        return round(self.low + span * min(STEPS, max(0, step)) / STEPS, 10)

    def value(self, coordinate: float) -> float:
        """Return the gene's value at a coordinate of the unit cube."""
        return self.snap(self.low + coordinate * (self.high - self.low))

    def coordinate(self, value: float) -> float:
        """Return the coordinate of a value: `value(coordinate(v)) == v` for every v on the grid."""
        span = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / span)) if span else 0.0

    def setting(self, values: Sequence[float]) -> Setting:
        """Say the values of all groups as a recipe's setting."""
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
            ValueError: a group has no value there or one outside the gene's range, or the setting divides the tensors
                in another way than the groups do.
        """
        values = self._knots(setting) if self.knots else self._by_group(setting)
        for value in values:
            if not self.low - 1e-9 <= value <= self.high + 1e-9:
                raise ValueError(f"{self.name} is {value:g}, outside [{self.low:g}, {self.high:g}]")
        return values

    def _knots(self, setting: Setting) -> list[float]:
        if isinstance(setting, int | float):
            return [float(setting)] * self.knots
        if not isinstance(setting, Sequence) or len(setting) != self.knots or isinstance(setting[0], Mapping):
            raise ValueError(f"{self.name}: expected a list of {self.knots} numbers")
        return [float(value) for value in setting]

    def _by_group(self, setting: Setting) -> list[float]:
        patterns = {group.pattern for group in self.groups}
        for part in setting if isinstance(setting, list) else [setting]:
            conditional = isinstance(part, Mapping)
            pattern = part.get("filter") if conditional else None
            if pattern not in (None, "*") and pattern not in patterns:
                raise ValueError(f'{self.name}: the filter "{pattern}" is no group of this space')
            if isinstance(part["value"] if conditional else setting, list):
                raise ValueError(f"{self.name}: a gradient over depth is no point of this space")
        found = [value_at(setting, group.pattern or "-", 0.0) for group in self.groups]
        if None in found:
            raise ValueError(f"{self.name}: no value for {self.groups[found.index(None)].label}")
        return [float(value) for value in found if value is not None]


def groups_of(axes: Sequence[str], parent: ParentSummary) -> tuple[tuple[Group, ...], int]:
    """Return the groups that depth and module axes make, most specific first, and the number of knots (0 = none)."""
    curve = next((axis for axis in axes if axis.startswith("curve:")), None)
    if curve is not None:
        knots = int(curve.partition(":")[2])
        return tuple(Group(f"knot {number + 1} of {knots}", "") for number in range(knots)), knots
    blocks = [f"{parent.block_prefix}{layer}." for layer in range(parent.num_layers)] if "layer" in axes else [""]
    parts = {"attention": parent.attention, "mlp": parent.mlp, "rest": ""}
    modules = MODULES if "module" in axes else ("rest",)
    groups = []
    for (layer, block), module in itertools.product(enumerate(blocks), modules):
        words = [f"layer {layer}"] if block else []
        words += [module] if len(modules) > 1 else []
        groups.append(Group(" ".join(words) or "all", block + parts[module]))
    if "layer" in axes:
        groups.append(Group(LOOSE, ""))
    return tuple(groups), 0


def fixed(parameters: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Return the fixed parameters that a method knows."""
    return {name: value for name, value in parameters.items() if name in known}
