"""Spaces of layer stacks: which parent's block stands at each depth, how often, and how strong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.records import Domain, Point
from evomerge.space._genes import Gene

GENES = ("source", "repeat", "gain")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpace:
    """At each depth: a choice among the parents' blocks of that depth, 0..max_repeat times, with a gain.

    donor: gives embeddings, final norm and head. models: the choices, the donor first.
    vary_source: whether the source is a choice (else always the donor). gain: None = always 1.
    """

    donor: str
    models: tuple[str, ...]
    num_layers: int
    vary_source: bool
    max_repeat: int
    gain: Gene | None
    dtype: str | None
    extension: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimiser may vary."""
        return Domain(
            reals=self.gain.size if self.gain else 0,
            integers=(self.max_repeat + 1,) * self.num_layers if self.max_repeat > 1 else (),
            categories=(len(self.models),) * self.num_layers if self.vary_source else (),
        )

    @property
    def coordinates(self) -> tuple[str, ...]:
        """A readable name for each coordinate of a point: reals, then integers, then choices."""
        domain = self.domain
        return (
            *(f"gain {group.label}" for group in (self.gain.groups if self.gain else ())),
            *(f"repeat layer {layer}" for layer in range(len(domain.integers))),
            *(f"source layer {layer}" for layer in range(len(domain.categories))),
        )

    @property
    def start(self) -> Point:
        """The donor itself: each of its blocks once, with gain 1 (or the gain's own start)."""
        domain = self.domain
        reals = (self.gain.coordinate(self.gain.start),) * domain.reals if self.gain else ()
        return Point(reals=reals, integers=(1,) * len(domain.integers), categories=(0,) * len(domain.categories))

    def decode(self, point: Point) -> dict[str, Any]:
        """Return the recipe (as plain data) of a point. A point without any block gives a recipe without layers."""
        gains = [self.gain.value(u) for u in point.reals] if self.gain else []
        sources: list[dict[str, Any]] = []
        used: list[float] = []
        for layer in range(self.num_layers):
            model = self.models[point.categories[layer]] if point.categories else self.donor
            for _ in range(point.integers[layer] if point.integers else 1):
                _extend(sources, model, layer)
                used.append(gains[layer if len(gains) > 1 else 0] if gains else 1.0)
        ends = {"model": self.donor, "layer_range": [0, 0]}
        extension = {**self.extension, **({"gains": used} if any(gain != 1 for gain in used) else {})}
        return {
            "merge_method": "passthrough",
            "base_model": self.donor,
            "slices": [{"sources": [source]} for source in (dict(ends), *sources, dict(ends))],
            **({"dtype": self.dtype} if self.dtype else {}),
            **({"evomerge": extension} if extension else {}),
        }

    def encode(self, document: Mapping[str, Any]) -> Point:
        """Return the point of a stack that this space can say (the inverse of `decode`).

        Raises:
            ValueError: a block stands out of order, from a model outside the space, or too often.
        """
        chosen: dict[int, tuple[str, list[float]]] = {}
        gains = list(document.get("evomerge", {}).get("gains", []))
        depth, last = 0, -1
        for part in document.get("slices", []):
            (source,) = part["sources"]
            for layer in range(*source["layer_range"]):
                model = str(source["model"])
                if layer < last or model not in self.models or chosen.get(layer, (model, []))[0] != model:
                    raise ValueError(f"block {layer} of {model} at depth {depth} does not fit this space")
                chosen.setdefault(layer, (model, []))[1].append(gains[depth] if gains else 1.0)
                depth, last = depth + 1, layer
        return self._point(chosen)

    def _point(self, chosen: Mapping[int, tuple[str, list[float]]]) -> Point:
        start, domain = self.start, self.domain
        layers = range(self.num_layers)
        repeats = [len(chosen[layer][1]) if layer in chosen else 0 for layer in layers]
        if max(repeats) > self.max_repeat or (not domain.integers and min(repeats) != 1):
            raise ValueError(f"blocks are repeated {max(repeats)} times, this space allows {self.max_repeat}")
        sources = [self.models.index(chosen[layer][0]) if layer in chosen else 0 for layer in layers]
        reals = start.reals
        if self.gain:
            known = [self.gain.coordinate(chosen[layer][1][0]) if layer in chosen else None for layer in layers]
            reals = tuple(start.reals[i] if known[i] is None else known[i] for i in range(len(reals)))  # type: ignore[misc]
        return Point(
            reals=reals,
            integers=tuple(repeats) if domain.integers else (),
            categories=tuple(sources) if domain.categories else (),
        )


def _extend(sources: list[dict[str, Any]], model: str, layer: int) -> None:
    """Append one block, joining it to the last slice where it continues that."""
    if sources and sources[-1]["model"] == model and sources[-1]["layer_range"][1] == layer:
        sources[-1]["layer_range"][1] += 1
    else:
        sources.append({"model": model, "layer_range": [layer, layer + 1]})
