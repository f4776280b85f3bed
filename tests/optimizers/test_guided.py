"""Adam on gradients, then CMA-ES: how fast, when it stops, what it does with late, missing and failed answers."""

from collections import deque

import numpy as np
import pytest

from evomerge.errors import InvalidInput
from evomerge.optimizers import GradientOptimizer, Optimizer, create
from evomerge.records import Domain, Point

OPTIMUM = np.linspace(0.2, 0.9, 12)
START = Point(reals=(0.5,) * 12)


def gradient_at(point: Point, noise: np.random.Generator, scale: float) -> np.ndarray:
    return -2 * (np.array(point.reals) - OPTIMUM) + scale * noise.standard_normal(12)


def ascend(asks: int, *, workers: int = 1, noise: float = 0.0, **options: float) -> tuple[Optimizer, int]:
    """Return the optimizer after some asks, with `workers` always busy, and how many asked for a gradient."""
    optimizer = create("guided", Domain(reals=12), objectives=1, seed=0, start=START, options=options)
    assert isinstance(optimizer, GradientOptimizer)
    random, waiting, gradients = np.random.default_rng(1), deque(), 0
    for _ in range(asks):
        waiting.append(optimizer.ask())
        if len(waiting) < workers:
            continue
        proposal = waiting.popleft()
        if proposal.gradient:
            gradients += 1
            optimizer.tell_gradient(proposal.number, gradient_at(proposal.point, random, noise))
        optimizer.tell(proposal.number, (-float(np.sum((np.array(proposal.point.reals) - OPTIMUM) ** 2)),))
    return optimizer, gradients


def distance(optimizer: Optimizer) -> float:
    mean = optimizer.mean()
    assert mean is not None
    return float(np.linalg.norm(np.array(mean.reals) - OPTIMUM))


@pytest.mark.parametrize(("workers", "asks"), [(1, 40), (2, 40), (8, 120), (64, 600)])
def test_follows_gradients_however_many_workers(workers: int, asks: int) -> None:
    optimizer, _ = ascend(asks, workers=workers, noise=0.3)
    assert distance(optimizer) < 0.6 * float(np.linalg.norm(np.array(START.reals) - OPTIMUM))


def test_finds_the_optimum_of_noisy_gradients() -> None:
    optimizer, _ = ascend(40, noise=0.3)
    assert distance(optimizer) < 0.15


def test_the_ascent_ends_where_gradients_are_noise() -> None:
    _, gradients = ascend(400, noise=1.0, steps=300)
    assert 30 < gradients < 300


def test_an_answer_without_gradient_begins_the_evolution() -> None:
    optimizer = create("guided", Domain(reals=12), objectives=1, seed=0, start=START, options={})
    first = optimizer.ask()
    assert first.gradient and first.point == START
    optimizer.tell(first.number, (0.5,))
    assert not optimizer.ask().gradient
    assert optimizer.mean() == START


def test_a_failed_iterate_is_left_half_way() -> None:
    optimizer = create("guided", Domain(reals=2), objectives=1, seed=0, start=Point(reals=(0.5, 0.5)), options={})
    for _ in range(3):
        proposal = optimizer.ask()
        optimizer.tell_gradient(proposal.number, (1.0, 0.0))
        optimizer.tell(proposal.number, (0.0,))
    far = optimizer.ask()
    optimizer.tell(far.number, None)
    near = optimizer.ask()
    assert near.gradient and 0.5 < near.point.reals[0] < far.point.reals[0]


def test_unknown_slopes_leave_their_coordinate_alone() -> None:
    optimizer = create("guided", Domain(reals=2), objectives=1, seed=0, start=Point(reals=(0.5, 0.3)), options={})
    for _ in range(5):
        proposal = optimizer.ask()
        optimizer.tell_gradient(proposal.number, (1.0, float("nan")))
        optimizer.tell(proposal.number, (0.0,))
    moved = optimizer.ask().point.reals
    assert moved[0] > 0.6 and moved[1] == 0.3


def test_wrong_gradients_are_refused() -> None:
    optimizer = create("guided", Domain(reals=2), objectives=1, seed=0, start=None, options={})
    proposal = optimizer.ask()
    with pytest.raises(InvalidInput, match="shape"):
        optimizer.tell_gradient(proposal.number, (1.0,))
    with pytest.raises(InvalidInput, match="never asked"):
        optimizer.tell_gradient(7, (1.0, 2.0))
