"""Spaces of layer stacks: which parent's block stands at each depth, how often, and how strong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.records import Domain, Point
from evomerge.space._genes import STEPS, Gene

GENES = ("source", "repeat", "gain")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpace:
    """At each depth: a choice among the parents' blocks of that depth, 0..max_repeat times, with a gain.

    donor: gives embeddings, final norm and head. models: the choices, the donor first.
    vary_source: whether the source is a choice (else always the donor). vary_repeat: whether the number of times is
    (else always once). gain: None = always 1.
    """

    donor: str
    models: tuple[str, ...]
    num_layers: int
    vary_source: bool
    vary_repeat: bool
    max_repeat: int
    gain: Gene | None
    dtype: str | None
    extension: Mapping[str, Any]

    @property
    def domain(self) -> Domain:
        """What an optimizer may vary."""
        return Domain(
            reals=self.gain.size if self.gain else 0,
            integers=(self.max_repeat + 1,) * self.num_layers if self.vary_repeat else (),
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
            ValueError: it is no stack; a block stands out of order, from a model outside the space, or too often; the
                ends are not the donor's; a gain is not one that the space can say.
        """
        ends, path = _path(document)
        if ends != {self.donor}:
            raise ValueError(f"its embeddings, final norm and head are not all {self.donor}'s")
        chosen: dict[int, tuple[str, list[float]]] = {}
        last = -1
        for depth, (model, layer, gain) in enumerate(path):
            if layer < last or model not in self.models or chosen.get(layer, (model, []))[0] != model:
                raise ValueError(f"block {layer} of {model} at depth {depth} does not fit this space")
            chosen.setdefault(layer, (model, []))[1].append(gain)
            last = layer
        point = self._point(chosen)
        step = (self.gain.high - self.gain.low) / STEPS if self.gain else 0.0
        for (_, layer, gain), (_, _, meant) in zip(path, _path(self.decode(point))[1], strict=True):
            if abs(gain - meant) > step + 1e-9:
                raise ValueError(f"the gain {gain:g} of block {layer} does not fit this space")
        return point

    def _point(self, chosen: Mapping[int, tuple[str, list[float]]]) -> Point:
        start, domain = self.start, self.domain
        layers = range(self.num_layers)
        repeats = [len(chosen[layer][1]) if layer in chosen else 0 for layer in layers]
        if any(layer >= self.num_layers for layer in chosen):
            raise ValueError(f"block {max(chosen)} does not exist; the models have {self.num_layers}")
        if max(repeats) > self.max_repeat or (not domain.integers and min(repeats) != 1):
            raise ValueError(f"blocks are repeated {max(repeats)} times, this space allows {self.max_repeat}")
        sources = [self.models.index(chosen[layer][0]) if layer in chosen else 0 for layer in layers]
        reals = start.reals
        if self.gain:
            known = {layer: self.gain.coordinate(used[0]) for layer, (_, used) in chosen.items()}
            common = next(iter(known.values()), start.reals[0])
            reals = (common,) if len(reals) == 1 else tuple(known.get(i, start.reals[i]) for i in layers)
        return Point(
            reals=reals,
            integers=tuple(repeats) if domain.integers else (),
            categories=tuple(sources) if domain.categories else (),
        )


def _path(document: Mapping[str, Any]) -> tuple[set[str], list[tuple[str, int, float]]]:
    """Return the models of config, embeddings and head, and the (model, layer, gain) of each block, of a stack.

    Raises:
        ValueError: the recipe is no stack, or does more than stacking.
    """
    slices = document.get("slices") or []
    if document.get("merge_method") != "passthrough" or not slices:
        raise ValueError("it is no stack of layers")
    sources = []
    for level in [document, *slices, *(source for part in slices for source in part["sources"])]:
        if level.get("parameters"):
            raise ValueError("it scales tensors, which no stack of this space does")
    for part in slices:
        if len(part["sources"]) != 1:
            raise ValueError("it merges blocks, which no stack of this space does")
        sources.append(part["sources"][0])
    blocks = [(str(source["model"]), layer) for source in sources for layer in range(*source["layer_range"])]
    gains = document.get("evomerge", {}).get("gains") or [1.0] * len(blocks)
    if len(gains) != len(blocks):
        raise ValueError(f"it has {len(gains)} gains for {len(blocks)} blocks")
    ends = {str(document.get("base_model", sources[0]["model"])), str(sources[0]["model"]), str(sources[-1]["model"])}
    return ends, [(model, layer, float(gain)) for (model, layer), gain in zip(blocks, gains, strict=True)]


def _extend(sources: list[dict[str, Any]], model: str, layer: int) -> None:
    """Append one block, joining it to the last slice where it continues that."""
    if sources and sources[-1]["model"] == model and sources[-1]["layer_range"][1] == layer:
        sources[-1]["layer_range"][1] += 1
    else:
        sources.append({"model": model, "layer_range": [layer, layer + 1]})
