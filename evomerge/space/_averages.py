"""The average of merges of one space, as a merge of the same parents: exact where weights are all that varies.

A weighted sum of weighted sums is one weighted sum of the original parents: the children of two task-arithmetic merges,
whose weights are w and v, have the weights (w + v) / 2, and of two weighted averages the mean of the normalized ones.
It is rounded once, where a merge of two saved merges is rounded three times. Methods that elect, thin or turn (TIES,
DARE, slerp) have no such rule: what they make of two merges is no merge of the parents by the same method.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.records import Point
from evomerge.space.genes import Gene, Grid

if TYPE_CHECKING:
    from evomerge.space.merge import MergeSpace

_WEIGHT = "weight"
_NORMALIZES = {"task_arithmetic": False, "linear": True}  # the methods, and whether they normalize by default

_Values = list[list[float]]  # of each gene, of each of its coordinates


def averaged_point(space: "MergeSpace", points: Sequence[Point]) -> Point | None:
    """Return the point whose merge is the average of the merges of some points, up to the space's grid.

    Args:
        space: of the points.
        points: at least one.

    Returns:
        None where no merge of the space is that average, or it is not known to be.
    """
    normalizes = _normalizes(space)
    if normalizes is None:
        return None
    rows = [_values(space, space.encode(space.decode(point))) for point in points]  # with totals kept
    if normalizes:
        rows = _with_equal_sums(space.genes, rows)
    if not rows:
        return None
    means = [[sum(own) / len(rows) for own in zip(*columns, strict=True)] for columns in zip(*rows, strict=True)]
    coordinates = []
    for gene, found in zip(space.genes, means, strict=True):
        assert isinstance(gene.scale, Grid)
        if min(found) < gene.scale.low - gene.scale.step or max(found) > gene.scale.high + gene.scale.step:
            return None
        coordinates.append([gene.scale.coordinate(gene.scale.snap(value)) for value in found])
    return space.point(coordinates, [], ())


def _normalizes(space: "MergeSpace") -> bool | None:
    """Tell whether the space's weights are divided by their sum; None where averages are not known to be exact."""
    if len(space.method_names) > 1 or space.method_names[0] not in _NORMALIZES or space.selection is not None:
        return None
    if any(gene.name != _WEIGHT or not isinstance(gene.scale, Grid) for gene in space.genes):
        return None
    default = _NORMALIZES[space.method_names[0]]
    bodies = list(space.parts.values()) or [space.parameters]
    if any(_WEIGHT in body for body in bodies):
        return None
    found = {bool({**space.parameters, **body}.get("normalize", default)) for body in bodies}
    normalizes = found.pop() if len(found) == 1 else None
    if normalizes and (space.method_names[0] != "linear" or any(gene.division.knots for gene in space.genes)):
        return None  # the sum that a curve is divided by changes from block to block
    return normalizes


def _values(space: "MergeSpace", point: Point) -> _Values:
    return [
        [float(gene.scale.value(u)) for u in own] for gene, own in zip(space.genes, space.by_gene(point), strict=True)
    ]


def _with_equal_sums(genes: Sequence[Gene], rows: Sequence[_Values]) -> list[_Values]:
    """Return weights that mean the same where they are normalized, all with one sum over the models in each group.

    The sum is the smallest one, so that no weight grows.

    Returns:
        Nothing where a sum is not above 0.
    """
    scaled: list[_Values] = [[] for _ in rows]
    for number, gene in enumerate(genes):
        width = gene.division.size
        sums = [[sum(row[number][i::width]) for i in range(width)] for row in rows]
        if min(map(min, sums)) <= 0:
            return []
        least = [min(column) for column in zip(*sums, strict=True)]
        for row, own, out in zip(rows, sums, scaled, strict=True):
            out.append([value * least[i % width] / own[i % width] for i, value in enumerate(row[number])])
    return scaled
