"""The front against its definition, the hypervolume against counting cells."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import InvalidInput
from evomerge.optimizers import dominates, front, hypervolume, knee, spread

_levels = st.integers(0, 4).map(float)


def points(objectives: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
    return st.lists(st.tuples(*[_levels] * objectives), max_size=12)


def test_hand_computed_front() -> None:
    values = [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, 3.0), (0.0, 2.0)]
    assert front(values) == [0, 1, 3, 4]
    assert front([]) == front([None]) == []
    assert dominates((1, 2), (1, 1)) and not dominates((1, 1), (1, 1)) and not dominates((2, 0), (1, 1))


@pytest.mark.parametrize("bad", [None, (math.nan, 9.0), (9.0, math.inf), (-math.inf, 9.0)])
def test_what_is_not_finite_is_never_on_the_front_and_evicts_nobody(bad: tuple[float, ...] | None) -> None:
    values = [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]
    assert front([bad, *values]) == [index + 1 for index in front(values)]
    if bad is not None:
        assert not dominates(bad, values[2]) and not dominates(values[0], bad)


@given(st.integers(1, 4).flatmap(points))
def test_front_is_its_definition(values: list[tuple[float, ...]]) -> None:
    expected = [i for i, v in enumerate(values) if not any(dominates(w, v) for w in values)]
    assert front(values) == expected


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="objectives"):
        front([(1.0,), (1.0, 2.0)])
    with pytest.raises(ValueError, match="objectives"):
        hypervolume([(1.0,)], (0.0, 0.0))


def test_hand_computed_hypervolumes() -> None:
    assert hypervolume([(2.0,), (3.0,)], (1.0,)) == 2.0
    assert hypervolume([(2.0, 1.0), (1.0, 2.0)], (0.0, 0.0)) == 3.0
    assert hypervolume([(1.0, 1.0, 1.0), (2.0, 0.5, 0.5)], (0.0, 0.0, 0.0)) == 1.25
    assert hypervolume([(1.0, -1.0), (0.0, 5.0)], (0.0, 0.0)) == hypervolume([], (0.0, 0.0)) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4).flatmap(lambda m: st.tuples(points(m), st.tuples(*[st.sampled_from([-1.0, 0.0, 2.0])] * m))))
def test_hypervolume_counts_cells(case: tuple[list[tuple[float, ...]], tuple[float, ...]]) -> None:
    values, reference = case
    cells = itertools.product(*[[r + k for k in range(int(4 - r))] for r in reference])
    dominated = sum(any(all(v >= c + 1 for v, c in zip(p, cell, strict=True)) for p in values) for cell in cells)
    assert hypervolume(values, reference) == pytest.approx(dominated)


def test_hypervolume_refuses_what_it_cannot_do() -> None:
    for bad in ([(math.nan, 1.0)], [(math.inf, 1.0)]):
        with pytest.raises(ValueError, match="non-finite"):
            hypervolume(bad, (0.0, 0.0))
    with pytest.raises(ValueError, match="1 to 4"):
        hypervolume([(1.0,) * 5], (0.0,) * 5)


def test_hypervolume_of_a_large_front_is_exact() -> None:
    """Points on the unit sphere's positive octant: within 2% of its volume, never above."""
    generator = np.random.default_rng(0)
    rows = np.abs(generator.normal(size=(400, 3)))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    volume = hypervolume([tuple(row) for row in rows], (0.0, 0.0, 0.0))
    assert 0.9 * math.pi / 6 < volume < math.pi / 6


def test_the_knee_bulges_most_whatever_the_units() -> None:
    points = [(0.0, 1.0), (0.5, 0.6), (0.8, 0.5), (1.0, 0.0)]
    assert knee(points) == 2
    assert knee([(1000 * a - 7, b / 30) for a, b in points]) == 2
    assert knee([(0.3, 0.2)]) == 0
    assert knee([(0.3, 0.2), (0.3, 0.2)]) == 0
    assert knee([(1.0,), (2.0,)]) == 1
    with pytest.raises(InvalidInput, match="no knee"):
        knee([])


def test_few_points_stand_for_a_front() -> None:
    angles = np.linspace(0, np.pi / 2, 50)
    points = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    chosen = spread(points, 5)
    assert len(set(chosen)) == 5
    best, reference = hypervolume(points, (0.0, 0.0)), (0.0, 0.0)
    side_by_side = hypervolume(points[20:25], reference)
    assert hypervolume([points[i] for i in chosen], reference) > 0.85 * best > side_by_side
    assert spread(points, 60) == list(range(50))
    assert spread([(1.0,) * 5, (2.0,) * 5, (3.0,) * 5], 2) == [0, 1], "more objectives than volumes are taken of"
