"""Spaces of whole-model merges: the values of a method's parameters vary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge import methods
from evomerge.records import Domain, Point
from evomerge.space._genes import Gene, fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSpace:
    """Points are gene values in the unit cube, in the order of `genes`; with several methods, the method is a choice.

    base, models: as the user named them. extension: fixed `evomerge:` block of every recipe.
    """

    names: tuple[str, ...]
    base: str | None
    models: tuple[str, ...]
    genes: tuple[Gene, ...]
    parameters: Mapping[str, Any]
    dtype: str | None
    extension: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""
        return Domain(
            reals=sum(gene.size for gene in self.genes), categories=(len(self.names),) if len(self.names) > 1 else ()
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point."""
        labels = []
        for gene in self.genes:
            owners = [self.models[i] for i in gene.models[: gene.columns]] if not gene.shared_by_models else [""]
            for owner in owners or [""]:
                labels += [" ".join(word for word in (gene.name, owner, group.label) if word) for group in gene.groups]
        return (*labels, *(["method"] if len(self.names) > 1 else []))

    @property
    def start(self) -> Point:
        """The point that the space's own start values describe."""
        reals = [gene.coordinate(gene.start) for gene in self.genes for _ in range(gene.size)]
        return Point(reals=tuple(reals), categories=(0,) * (len(self.names) > 1))

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point; values snap to the genes' grids."""
        method = methods.get(self.names[point.categories[0]] if point.categories else self.names[0])
        known = [parameter.name for parameter in method.parameters]
        shared: dict[str, Any] = fixed(self.parameters, known)
        own: list[dict[str, Any]] = [{} for _ in self.models]
        position = 0
        for gene in self.genes:
            values = [gene.value(u) for u in point.reals[position : position + gene.size]]
            position += gene.size
            if gene.name not in known:
                continue
            columns = _columns(values, gene)
            if not gene.models:
                shared[gene.name] = gene.setting(columns[0])
            else:
                for index, model in enumerate(gene.models):
                    own[model][gene.name] = gene.setting(columns[0 if gene.shared_by_models else index])
        return self._document(method, shared, own)

    def _document(self, method: methods.Method, shared: dict[str, Any], own: list[dict[str, Any]]) -> dict[str, Any]:
        entries = [
            {"model": model, **({"parameters": parameters} if parameters else {})}
            for model, parameters in zip(self.models, own, strict=True)
        ]
        base = {"base_model": self.base} if self.base else {}
        return {
            "merge_method": method.name,
            **base,
            "models": entries,
            **({"parameters": shared} if shared else {}),
            **({"dtype": self.dtype} if self.dtype else {}),
            **({"evomerge": dict(self.extension)} if self.extension else {}),
        }

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a recipe that this space can say: `decode(encode(d)) == d` for every decoded d.

        Raises:
            ValueError: the recipe's method, models or values lie outside the space.
        """
        name = str(document.get("merge_method"))
        if name not in self.names:
            raise ValueError(f'method "{name}" is not in this space')
        method = methods.get(name)
        given = {str(entry["model"]): entry.get("parameters", {}) for entry in document.get("models", [])}
        if method.base != "input":
            if document.get("base_model") != self.base:
                raise ValueError("the recipe's base_model is not that of this space")
            given.pop(str(self.base), None)  # listed among the models or not, it is the base
        if set(given) != set(self.models):
            raise ValueError("the recipe's models are not those of this space")
        self._check_fixed(method, document.get("parameters", {}), given)
        known = [parameter.name for parameter in method.parameters]
        reals: list[float] = []
        for gene in self.genes:
            if gene.name not in known:
                reals += [gene.coordinate(gene.start)] * gene.size
                continue
            owners = [given[self.models[i]] for i in gene.models[: gene.columns]] or [document.get("parameters", {})]
            for owner in owners:
                setting = owner.get(gene.name, document.get("parameters", {}).get(gene.name))
                if setting is None:
                    raise ValueError(f"the recipe does not set {gene.name}")
                reals += [gene.coordinate(value) for value in gene.read(setting)]
        return Point(reals=tuple(reals), categories=(self.names.index(name),) if len(self.names) > 1 else ())

    def _check_fixed(
        self, method: methods.Method, shared: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Raise ValueError if a recipe gives a parameter that does not vary another value than this space does."""
        varied = {gene.name for gene in self.genes}
        for parameter in method.parameters:
            if parameter.name in varied or not parameter.effect:
                continue
            fixed_at = self.parameters.get(parameter.name, parameter.default)
            owners = [{}] if parameter.per == "merge" else list(given.values())
            for owner in owners:
                said = owner.get(parameter.name, shared.get(parameter.name, parameter.default))
                if said != fixed_at:
                    raise ValueError(f"the recipe's {parameter.name} is {said}, this space's is {fixed_at}")


def _columns(values: Sequence[float], gene: Gene) -> list[Sequence[float]]:
    width = len(gene.groups)
    return [values[i * width : (i + 1) * width] for i in range(gene.columns)]
