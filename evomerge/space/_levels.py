"""Coarse to fine: what a search varies first, as linear maps into the genes of the whole space.

A level divides the genes' coordinates by axes, as a gene's `per` does: one number for each model, then for each
module group of each model, then curves over depth, then layers. A search at a level moves the coordinates of the
whole space together, so that every level's points are points of the one space.
"""

from collections.abc import Sequence
from typing import NamedTuple

from evomerge.records import Level
from evomerge.space._genes import MODULES, Gene

_WORDS = {"model": "models", "layer": "layers", "module": "module groups"}


class _Place(NamedTuple):
    """Which tensors a coordinate is about; None = all of them.

    Attributes:
        column: number of the model.
        layer: number of the block; -1 = what lies outside of the blocks.
        module: "attention", "mlp" or "rest".
    """

    column: int
    layer: int | None
    module: str | None


def level_of(axes: Sequence[str], genes: Sequence[Gene], pers: Sequence[Sequence[str]], layers: int) -> Level:
    """Return the level that axes describe.

    Args:
        axes: as of a gene's `per`; empty = one number for each gene.
        genes: of the space.
        pers: the axes of each gene.
        layers: number of blocks.
    """
    rows: list[dict[tuple[object, ...], float]] = []
    for gene, per in zip(genes, pers, strict=True):
        rows += [_weights(gene.name, place, axes, layers) for place in _places(gene, per, layers)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    position = {key: i for i, key in enumerate(keys)}
    weights = []
    for row in rows:
        dense = [0.0] * len(keys)
        for key, weight in row.items():
            dense[position[key]] += weight
        weights.append(tuple(dense))
    return Level(name=name_of(axes), weights=tuple(weights))


def name_of(axes: Sequence[str]) -> str:
    """Return a name of a level for people."""
    words = [_WORDS.get(axis, f"curves of {axis.partition(':')[2]} knots over depth") for axis in axes]
    return " x ".join(words) or "one for all"


def _places(gene: Gene, per: Sequence[str], layers: int) -> list[_Place]:
    """Return the place of each coordinate of a gene, in the order of its coordinates."""
    modules: Sequence[str | None] = MODULES if "module" in per else (None,)
    if gene.knots:
        groups = [_Place(0, None, None)] * gene.knots
    elif "layer" in per:
        groups = [_Place(0, layer, module) for layer in range(layers) for module in modules]
        groups.append(_Place(0, -1, "rest" if "module" in per else None))
    else:
        groups = [_Place(0, None, module) for module in modules]
    return [place._replace(column=column) for column in range(gene.columns) for place in groups]


def _weights(name: str, place: _Place, axes: Sequence[str], layers: int) -> dict[tuple[object, ...], float]:
    """Return how much a coordinate moves with each number of the level."""
    column = place.column if "model" in axes else None
    module = place.module if "module" in axes else None
    if "layer" in axes:
        return {(name, column, module, place.layer): 1.0}
    curve = next((axis for axis in axes if axis.startswith("curve:")), None)
    if curve is None or place.layer is None:
        return {(name, column, module): 1.0}
    knots = int(curve.partition(":")[2])
    if place.layer < 0:  # embeddings, final norm and head lie at no depth: the mean of the curve
        return {(name, column, module, knot): 1 / knots for knot in range(knots)}
    depth = place.layer / max(1, layers - 1) * (knots - 1)
    low = min(knots - 2, int(depth + 1e-9))
    found = {(name, column, module, low): 1 - (depth - low), (name, column, module, low + 1): depth - low}
    return {key: weight for key, weight in found.items() if weight > 1e-9}
