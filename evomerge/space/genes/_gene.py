"""A gene: one parameter that varies, how it is written into a recipe, and how it is read from one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evomerge.errors import InvalidInput
from evomerge.recipe import Setting, value_at
from evomerge.records import TensorPlace
from evomerge.space.genes._grids import Grid, Option, Options
from evomerge.space.genes._groups import Division, TensorGroup
from evomerge.space.genes._totals import Total

_TOLERANCE = 1e-9  # float noise of a gradient's values
WHOLE = Division((TensorGroup("all"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """One parameter that varies: a value for each model (or one for all) and each group of tensors.

    Attributes:
        name: of the parameter.
        scale: the values that it may have.
        start: where a search begins.
        models: indices of the space's models that have the parameter; empty: one value for the whole merge.
        shared_by_models: whether all of `models` share one value.
        division: the tensors that share a value, or the knots.
        members: the tensors of each group.
        part: of the model that it is about; "" = all of it.
        total: bound on the sum over models, or None.
        variant: whether it chooses a variant of the method instead of a parameter's value.
    """

    name: str
    scale: Grid | Options
    start: Option
    models: tuple[int, ...] = ()
    shared_by_models: bool = True
    division: Division = WHOLE
    members: tuple[tuple[TensorPlace, ...], ...] = field(default=(), repr=False)
    part: str = ""
    total: Total | None = None
    variant: bool = False

    @property
    def columns(self) -> int:
        """Number of models with values of their own, at least 1."""
        return 1 if self.shared_by_models or not self.models else len(self.models)

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return self.columns * self.division.size

    @property
    def is_real(self) -> bool:
        """Whether its coordinates are reals of the unit cube; else they are integers or categories."""
        return isinstance(self.scale, Grid)

    def by_column(self, values: Sequence[Option]) -> list[Sequence[Option]]:
        """Return the values of each model, or one list for all."""
        width = self.division.size
        return [values[i * width : (i + 1) * width] for i in range(self.columns)]

    def setting(self, values: Sequence[Option], used: Sequence[bool] = ()) -> Setting:
        """Return the values of all groups as a recipe's setting.

        Args:
            values: of one model.
            used: which groups' values have a meaning; empty = all.

        Returns:
            The setting, or None where no group's value has a meaning.
        """
        groups, knots = self.division
        settings: list[Setting] = list(values)
        if knots:
            settings = [list(values[i * knots : (i + 1) * knots]) for i in range(len(groups))]
        if len(groups) == 1 and not groups[0].patterns:
            return settings[0] if not used or used[0] else None
        return [
            {**({"filter": pattern} if pattern else {}), "value": value}
            for number, (group, value) in enumerate(zip(groups, settings, strict=True))
            for pattern in group.patterns or ("",)
            if not used or used[number]
        ] or None

    def read(self, setting: Setting, used: Sequence[bool] = ()) -> list[Option]:
        """Return the values that a recipe's setting holds (the inverse of `setting`), whatever its form.

        Args:
            setting: of one model.
            used: as in `setting`; the others get the start value.

        Raises:
            InvalidInput: a tensor has no value there or one that the gene does not have, or tensors of one group have
                different ones.
        """
        if isinstance(setting, bool | int | float):  # mostly, and models can have thousands of tensors
            found = [self.scale.check(setting, self.name)] * self.division.size
            width = self.division.knots or 1
            return [value if not used or used[i // width] else self.start for i, value in enumerate(found)]
        found = []
        for number, (group, members) in enumerate(zip(self.division.groups, self.members, strict=True)):
            width = self.division.knots or 1
            if (used and not used[number]) or not members:
                found += [self.start] * width
                continue
            own = [self._at(setting, place, place.depth, group) for place in members]
            values = [own[0]] if width == 1 else self._knots(setting, members)
            for place, value in zip(members, own, strict=True):
                meant = values[0] if width == 1 else value_at(list(values), place.name, place.depth)
                if not _same(value, meant):
                    raise InvalidInput(f"{self.name} of {place.name} is {value}, not that of {group.label}: {meant}")
            found += values
        return [self.scale.check(value, self.name) for value in found]

    def _knots(self, setting: Setting, members: Sequence[TensorPlace]) -> list[Option]:
        """Return the values at the knots, as the tensors nearest to them have them."""
        last, found = self.division.knots - 1, []
        for knot in range(self.division.knots):
            depth = knot / last
            nearest = min(members, key=lambda place: abs(place.depth - depth))
            found.append(self._at(setting, nearest, depth, self.division.groups[0]))
        return found

    def _at(self, setting: Setting, place: TensorPlace, depth: float, group: TensorGroup) -> Option:
        value = value_at(setting, place.name, depth)
        if value is None:
            raise InvalidInput(f"{self.name}: no value for {group.label}")
        return value


def _same(value: Option, meant: Option | None) -> bool:
    if isinstance(value, bool | str) or isinstance(meant, bool | str) or meant is None:
        return value == meant
    return abs(value - meant) <= _TOLERANCE * max(1.0, abs(meant))
