"""Which candidates no other dominates, and how much they dominate together. Higher is better.

Suffixes: P points, O objectives.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput

_Points = npt.NDArray[np.float64]
_MAX_OBJECTIVES = 4


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better. False if either holds a non-finite number.

    Args:
        a: objectives, higher is better.
        b: the same objectives of another candidate.

    Raises:
        InvalidInput: other lengths.
    """
    a_O, b_O = _stack([a, b])
    return bool(np.isfinite([a_O, b_O]).all() and (a_O >= b_O).all() and (a_O > b_O).any())


def front(values: Sequence[Sequence[float] | None]) -> list[int]:
    """Return the indices of the non-dominated entries, in their order.

    None and entries with a non-finite number are never on the front and never keep another off it. Equal entries stay
    on it together.

    Args:
        values: one entry per candidate: its objectives, higher is better, or None if it has no scores.

    Raises:
        InvalidInput: entries of different lengths.
    """
    present = [index for index, value in enumerate(values) if value is not None]
    points_PO = _stack([value for value in values if value is not None])
    finite = np.flatnonzero(np.isfinite(points_PO).all(axis=1))
    indices = [present[position] for position in finite]
    points_PO = points_PO[finite]
    return [indices[position] for position in _front(points_PO)]


def _front(points_PO: _Points) -> list[int]:
    """Return the positions of the non-dominated points, in their order.

    What dominates a point comes before it in descending lexicographic order, so each point is compared only with
    the front of those before it.
    """
    kept: list[int] = []
    kept_PO = np.empty_like(points_PO)
    for position in np.lexsort(-points_PO.T[::-1]) if points_PO.size else range(len(points_PO)):
        if not _dominated(points_PO[position], kept_PO[: len(kept)]):
            kept_PO[len(kept)] = points_PO[position]
            kept.append(int(position))
    return sorted(kept)


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume that the points dominate above a reference, exactly, by slicing along the last objective.

    Args:
        points: finite values of 1 to 4 objectives. Those that are not above the reference everywhere add nothing.
        reference: one value per objective.

    Raises:
        InvalidInput: other lengths or non-finite numbers.
    """
    if not 1 <= len(reference) <= _MAX_OBJECTIVES:
        raise InvalidInput(f"hypervolume of {len(reference)} objectives; expected 1 to {_MAX_OBJECTIVES}")
    stacked = _stack([reference, *points])
    if not np.isfinite(stacked).all():
        raise InvalidInput("hypervolume of a non-finite value; leave such points out")
    above_PO = stacked[1:] - stacked[0]
    return _volume(above_PO[(above_PO > 0).all(axis=1)])


def knee(points: Sequence[Sequence[float]]) -> int:
    """Return the index of a front's knee: the point farthest beyond the plane through the best of each objective.

    Every objective is counted by its own range on the front (Das 1999, https://doi.org/10.1007/s001580050111). Of equal
    points the first.

    Args:
        points: of a front, at least one, finite; higher is better.

    Raises:
        InvalidInput: no points, other lengths or non-finite numbers.
    """
    points_PO = _stack(points)
    if not len(points_PO) or not np.isfinite(points_PO).all():
        raise InvalidInput("a front without points, or with a non-finite value, has no knee")
    return int(_shares(points_PO).sum(axis=1).argmax())


def spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Return the indices of few points that stand for a front: each the one that adds most hypervolume, in that order.

    Volumes are above a point a tenth of the front's range below its worst values, so that the ends count, too. With
    more objectives than `hypervolume` takes, the first points.

    Args:
        points: of a front, finite; higher is better. Of equally good ones the first is taken.
        count: how many; all if there are no more.
    """
    points_PO = _stack(points)
    if len(points_PO) <= count or points_PO.shape[1] > _MAX_OBJECTIVES:
        return list(range(min(count, len(points_PO))))
    lifted_PO = _shares(points_PO) + 0.1
    chosen: list[int] = []
    while len(chosen) < count:
        left = [i for i in range(len(lifted_PO)) if i not in chosen]
        chosen.append(max(left, key=lambda i: (round(_volume(lifted_PO[[*chosen, i]]), 12), -i)))
    return chosen


def _shares(points_PO: _Points) -> _Points:
    """Return where each value lies between the worst and the best of its objective, 0 to 1; 0 where all are equal."""
    low_O = points_PO.min(axis=0)
    range_O = points_PO.max(axis=0) - low_O
    return (points_PO - low_O) / np.where(range_O > 0, range_O, 1.0)


def _volume(points_PO: _Points) -> float:
    """Hypervolume above 0 of positive points."""
    if not len(points_PO):
        return 0.0
    if points_PO.shape[1] == 1:
        return float(points_PO.max())
    points_PO = points_PO[np.lexsort(points_PO.T)[::-1]]  # by the last objective, best first
    if points_PO.shape[1] == 2:
        widths = np.diff(np.maximum.accumulate(points_PO[:, 0]), prepend=0.0)
        return float(widths @ points_PO[:, 1])
    heights = -np.diff(points_PO[:, -1], append=0.0)
    kept = np.empty((0, points_PO.shape[1] - 1))
    total = 0.0
    for point, height in zip(points_PO[:, :-1], heights, strict=True):
        if not (kept >= point).all(axis=1).any():  # otherwise the slice below does not grow
            kept = np.vstack([kept[~(kept <= point).all(axis=1)], point])
        if height > 0:
            total += float(height) * _volume(kept)
    return total


def _dominated(point: _Points, points_PO: _Points) -> bool:
    return bool(((points_PO >= point).all(axis=1) & (points_PO > point).any(axis=1)).any())


def _stack(rows: Sequence[Sequence[float]]) -> _Points:
    if len({len(row) for row in rows}) > 1:
        raise InvalidInput(f"entries have {sorted({len(row) for row in rows})} objectives; expected the same for all")
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else 0)
