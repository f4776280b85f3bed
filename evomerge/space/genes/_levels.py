"""Coarse to fine: what a search varies first, as linear maps into the genes of the whole space.

A level divides the genes' coordinates by axes, as a gene's `per` does: one number for each model, then for each
module group of each model, then curves over depth, then layers. A search at a level moves the coordinates of the
whole space together, so that every level's points are points of the one space.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evomerge.records import Level
from evomerge.space.genes._axes import GeneAxis
from evomerge.space.genes._gene import Gene

_WORDS = {"model": "models", "layer": "layers", "module": "module groups", "groups": "groups of filters"}


class _Place(NamedTuple):
    """Which tensors a coordinate is about; None = all of them.

    Attributes:
        column: number of the model.
        layer: number of the block; -1 = what lies outside of the blocks.
        inside: name of the module, or of the group of filters.
    """

    column: int
    layer: int | None
    inside: str | None


def level_of(axes: Sequence[GeneAxis], genes: Sequence[Gene], layers: int) -> Level:
    """Return the level that axes describe.

    Args:
        axes: as of a gene's `per`; empty = one number for each gene.
        genes: of the space; reals alone.
        layers: number of blocks.
    """
    rows: list[dict[tuple[object, ...], float]] = []
    kinds: dict[str, GeneAxis] = {axis.kind: axis for axis in axes}
    for gene in genes:
        rows += [_weights(f"{gene.part} {gene.name}", place, kinds, layers) for place in _places(gene)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    position = {key: i for i, key in enumerate(keys)}
    weights = []
    for row in rows:
        dense = [0.0] * len(keys)
        for key, weight in row.items():
            dense[position[key]] += weight
        weights.append(tuple(dense))
    return Level(name=name_of(axes), weights=tuple(weights))


def name_of(axes: Sequence[GeneAxis]) -> str:
    """Return a name of a level for people."""
    words = []
    for axis in axes:
        curves = f"curves of {axis.count} knots over depth"
        words.append(curves if axis.kind == "curve" else _WORDS[axis.kind])
    return " x ".join(words) or "one for all"


def _places(gene: Gene) -> list[_Place]:
    """Return the place of each coordinate of a gene, in the order of its coordinates."""
    groups = [_Place(0, group.layer, group.inside) for group in gene.division.groups]
    groups = [place for place in groups for _ in range(max(1, gene.division.knots))]
    return [place._replace(column=column) for column in range(gene.columns) for place in groups]


def _weights(name: str, place: _Place, axes: Mapping[str, GeneAxis], layers: int) -> dict[tuple[object, ...], float]:
    """Return how much a coordinate moves with each number of the level."""
    column = place.column if "model" in axes else None
    inside = place.inside if "module" in axes or "groups" in axes else None
    if "layer" in axes:
        return {(name, column, inside, place.layer): 1.0}
    if "curve" not in axes or place.layer is None:
        return {(name, column, inside): 1.0}
    knots = axes["curve"].count
    if place.layer < 0:  # embeddings, final norm and head lie at no depth: the mean of the curve
        return {(name, column, inside, knot): 1 / knots for knot in range(knots)}
    depth = place.layer / max(1, layers - 1) * (knots - 1)
    low = min(knots - 2, int(depth + 1e-9))
    found = {(name, column, inside, low): 1 - (depth - low), (name, column, inside, low + 1): depth - low}
    return {key: weight for key, weight in found.items() if weight > 1e-9}
