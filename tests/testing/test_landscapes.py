"""Landscapes: the planted optimum, the accuracy by the formula, what rho and noise do, and seeds."""

import numpy as np
import pytest

from evomerge.testing.landscapes import BEST_ACCURACY, START_ACCURACY, Landscape, NullLandscape


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("dimensions", [2, 8, 64])
def test_the_planted_optimum_is_the_optimum(dimensions: int, noise: float) -> None:
    landscape = Landscape(dimensions, seed=3, noise=noise, search_items=10, held_out_items=10)
    assert landscape.accuracy(landscape.start) == pytest.approx(START_ACCURACY)
    assert landscape.accuracy(landscape.optimum) == pytest.approx(BEST_ACCURACY)
    random = np.random.default_rng(0)
    for point in random.random((200, dimensions)):
        assert landscape.accuracy(point) < BEST_ACCURACY
        nearer = (point + landscape.optimum) / 2
        assert landscape.accuracy(nearer) > landscape.accuracy(point)


@pytest.mark.parametrize(("rho", "noise"), [(0.0, 0.0), (0.6, 0.0), (0.6, 0.5), (1.0, 0.0)])
def test_held_out_accuracy_is_the_formula(rho: float, noise: float) -> None:
    landscape = Landscape(8, seed=1, rho=rho, noise=noise, search_items=10, held_out_items=40_000, features=512)
    for point in (landscape.start, landscape.optimum, np.full(8, 0.3)):
        assert landscape.held_out_accuracy(point) == pytest.approx(landscape.accuracy(point), abs=0.03)


def test_rho_says_how_much_two_points_have_in_common() -> None:
    shared = []
    for rho in (0.0, 0.6, 1.0):
        landscape = Landscape(24, seed=5, rho=rho, search_items=4000, held_out_items=0, features=512)
        first, second = (landscape.margins(np.full(24, value)) for value in (0.1, 0.9))
        shared.append(float(np.corrcoef(first, second)[0, 1]))
    assert shared == pytest.approx([0.0, 0.6, 1.0], abs=0.1)


def test_fields_are_smooth_and_noise_is_not() -> None:
    smooth = Landscape(8, seed=2, search_items=2000, held_out_items=0)
    rough = Landscape(8, seed=2, search_items=2000, held_out_items=0, noise=0.5)
    near = smooth.start + 0.001
    assert np.abs(smooth.margins(near) - smooth.margins(smooth.start)).max() < 0.05
    moved = rough.margins(near) - rough.margins(rough.start)
    assert float(moved.std()) == pytest.approx(0.5 * 2**0.5, abs=0.05)
    assert np.array_equal(rough.margins(near), rough.margins(near))


def test_item_scores_agree_with_margins() -> None:
    landscape = Landscape(4, seed=0, search_items=50, held_out_items=0)
    items = [7, 3, 40]
    plain, graded = (landscape.item_scores(landscape.start, items, soft=soft) for soft in (False, True))
    assert plain.ids == graded.ids == (7, 3, 40) and plain.soft is None and graded.soft is not None
    assert plain.values == tuple(float(margin > 0) for margin in landscape.margins(landscape.start)[items])
    assert [soft > np.log(0.5) for soft in graded.soft] == [value == 1.0 for value in graded.values]


def test_equal_seeds_give_equal_landscapes() -> None:
    first, again, other = (Landscape(8, seed=seed, search_items=20, held_out_items=5) for seed in (1, 1, 2))
    point = np.full(8, 0.4)
    assert np.array_equal(first.margins(point), again.margins(point))
    assert not np.array_equal(first.margins(point), other.margins(point))
    assert not np.array_equal(first.optimum, other.optimum)


@pytest.mark.parametrize("gaps", [(0.0,) * 4, (0.0, 0.02, 0.02, 0.02), (0.0, 0.03)])
def test_nothing_beats_the_best_reference_of_a_null_landscape(gaps: tuple[float, ...]) -> None:
    landscape = NullLandscape(8, seed=4, gaps=gaps, search_items=10, held_out_items=20_000)
    assert landscape.references.shape == (len(gaps), 8)
    for point, gap in zip(landscape.references, gaps, strict=True):
        assert landscape.accuracy(point) == pytest.approx(0.6 - gap)
        assert landscape.held_out_accuracy(point) == pytest.approx(0.6 - gap, abs=0.03)
    for point in np.random.default_rng(0).random((50, 8)):
        assert landscape.accuracy(point) == pytest.approx(0.6)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="rho"):
        Landscape(2, seed=0, rho=1.5)
    with pytest.raises(ValueError, match="gaps"):
        NullLandscape(2, seed=0, gaps=(0.02, 0.0))
