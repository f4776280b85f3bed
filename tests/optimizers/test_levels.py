"""Coarse to fine: what carries over from level to level, and when a level ends."""

from itertools import pairwise

import numpy as np
import pytest

from evomerge.optimizers import GradientOptimizer, LevelOptimizer, Optimizer, create_by_levels
from evomerge.records import Domain, Level, Point
from evomerge.testing.optimizers import OptimizerContract

DEPTH = 12
ONE = Level(name="one for all", weights=((1.0, 0.0),) * (DEPTH // 2) + ((0.0, 1.0),) * (DEPTH // 2))
CURVE = Level(
    name="curves",
    weights=tuple(
        (max(0.0, 1 - 2 * t), 1 - abs(2 * t - 1), max(0.0, 2 * t - 1)) for t in np.linspace(0, 1, DEPTH).tolist()
    ),
)
FINE = Level(name="layers", weights=tuple(tuple(float(i == j) for j in range(DEPTH)) for i in range(DEPTH)))
LEVELS = (ONE, CURVE, FINE)
OPTIMUM = 0.5 + 0.3 * np.sin(np.linspace(0, 3, DEPTH))
START = Point(reals=tuple(0.1 + 0.01 * k for k in range(DEPTH)))


def make(name: str = "guided", planned: int = 200, start: Point = START, seed: int = 0) -> LevelOptimizer:
    optimizer = create_by_levels(name, Domain(reals=DEPTH), LEVELS, seed=seed, start=start, planned=planned, options={})
    assert isinstance(optimizer, LevelOptimizer)
    return optimizer


def value(point: Point) -> float:
    return -float(np.sum((np.array(point.reals) - OPTIMUM) ** 2))


def play(optimizer: LevelOptimizer, asks: int, *, gradients: bool) -> list[tuple[int, Point]]:
    found = []
    for _ in range(asks):
        proposal = optimizer.ask()
        found.append((optimizer.level, proposal.point))
        if gradients and proposal.gradient:
            optimizer.tell_gradient(proposal.number, (2 * (OPTIMUM - np.array(proposal.point.reals))).tolist())
        optimizer.tell(proposal.number, (value(proposal.point),))
    return found


class TestContract(OptimizerContract):
    domain = Domain(reals=4)
    budget = 400

    def create(self, seed: int) -> Optimizer:
        pairs = Level(name="pairs", weights=((1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 1.0)))
        each = Level(name="each", weights=tuple(tuple(float(i == j) for j in range(4)) for i in range(4)))
        start = Point(reals=(0.5,) * 4)
        return create_by_levels("cma", self.domain, (pairs, each), seed=seed, start=start, planned=60, options={})


@pytest.mark.parametrize("gradients", [True, False])
def test_goes_through_all_levels_and_ends_near_the_optimum(gradients: bool) -> None:
    optimizer = make(planned=400)
    levels = [level for level, _ in play(optimizer, 400 if not gradients else 150, gradients=gradients)]
    assert sorted(levels) == levels and set(levels) == {0, 1, 2}
    mean = optimizer.mean()
    assert mean is not None and value(mean) > 0.05 * value(START)


def test_the_first_level_moves_its_groups_together_around_the_start() -> None:
    points = [point for level, point in play(make("cma"), 30, gradients=False) if level == 0]
    assert len(points) > 20
    for point in points:
        moved = np.array(point.reals) - np.array(START.reals)
        free = np.array([0.0 < x < 1.0 for x in point.reals])
        for group in (slice(0, DEPTH // 2), slice(DEPTH // 2, DEPTH)):
            inside = moved[group][free[group]]
            assert inside.size == 0 or np.ptp(inside) < 1e-8


def test_a_level_starts_at_the_mean_of_the_last_one() -> None:
    optimizer = make()
    means: list[Point] = []
    levels = []
    for _ in range(150):
        mean = optimizer.mean()
        assert mean is not None
        means.append(mean)
        proposal = optimizer.ask()
        levels.append(optimizer.level)
        if proposal.gradient:
            optimizer.tell_gradient(proposal.number, (2 * (OPTIMUM - np.array(proposal.point.reals))).tolist())
            if levels[-1] != levels[max(0, len(levels) - 2)]:
                assert proposal.point.reals == pytest.approx(mean.reals, abs=1e-8)
        optimizer.tell(proposal.number, (value(proposal.point),))
    assert set(levels) == {0, 1, 2}


def test_a_start_that_no_coarse_point_equals_is_kept() -> None:
    mean = make("cma").mean()
    assert mean is not None and mean.reals == pytest.approx(START.reals, abs=1e-9)


def test_levels_end_sooner_where_fewer_candidates_are_planned() -> None:
    few, many = (
        [level for level, _ in play(make("cma", planned=planned), 400, gradients=False)].index(2)
        for planned in (100, 1500)
    )
    assert few < many


def test_where_the_ascent_ended_is_known_from_the_level_that_followed_gradients() -> None:
    optimizer = make(planned=60)
    assert isinstance(optimizer, GradientOptimizer) and optimizer.ascent_mean() is None
    play(optimizer, 200, gradients=True)
    assert optimizer.ascent_mean() is not None


def test_late_answers_of_an_earlier_level_are_taken() -> None:
    optimizer = make("cma", planned=60)
    late = [optimizer.ask() for _ in range(3)]
    play(optimizer, 120, gradients=False)
    assert optimizer.level > 0
    before = optimizer.mean()
    for proposal in late:
        optimizer.tell(proposal.number, (1e6,))
    assert optimizer.mean() == before


def test_generations_go_up_over_the_change_of_levels() -> None:
    optimizer = make("cma", planned=60)
    generations = []
    for _ in range(200):
        proposal = optimizer.ask()
        generations.append(proposal.generation)
        optimizer.tell(proposal.number, (value(proposal.point),))
    assert all(after - before in (0, 1) for before, after in pairwise(generations)) and optimizer.level == 2


def test_a_level_that_holds_little_of_the_gradient_is_left_at_once() -> None:
    """Neighbors pull apart: neither groups nor curves can follow."""
    torn = np.array([0.9, 0.1] * (DEPTH // 2))
    optimizer = make(start=Point(reals=(0.5,) * DEPTH))
    random = np.random.default_rng(0)
    levels = []
    for _ in range(12):
        proposal = optimizer.ask()
        levels.append(optimizer.level)
        gradient = torn - np.array(proposal.point.reals) + 0.1 * random.standard_normal(DEPTH)
        optimizer.tell_gradient(proposal.number, gradient.tolist())
        optimizer.tell(proposal.number, (0.5,))
    assert levels == [0] * 4 + [2] * 8
