"""Population and learning follow the number of workers, which is seen from the proposals without an answer."""

import math
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from evomerge.optimizers import Optimizer, Proposal, create
from evomerge.records import Domain, Point

SIZE = 21
OPTIMUM = np.linspace(0.25, 0.8, SIZE)


def value(point: Point) -> float:
    return -float(np.sum((np.array(point.reals) - OPTIMUM) ** 2))


def searched(
    workers: int, budget: int = 2500, answer: Callable[[Point], float] = value, seed: int = 0, **options: int | str
) -> tuple[Optimizer, list[Proposal]]:
    """Return the optimizer after a search whose workers are always busy, and its proposals."""
    name = str(options.pop("name", "cma"))
    optimizer = create(name, Domain(reals=SIZE), objectives=1, seed=seed, start=None, options=options)
    random, waiting, proposals = np.random.default_rng(seed), deque[Proposal](), []
    for _ in range(budget):
        waiting.append(optimizer.ask())
        proposals.append(waiting[-1])
        if len(waiting) == workers:
            waiting.rotate(-int(random.integers(max(1, workers // 8))))  # some overtake others
            proposal = waiting.popleft()
            optimizer.tell(proposal.number, (answer(proposal.point),))
    for proposal in waiting:
        optimizer.tell(proposal.number, (answer(proposal.point),))
    return optimizer, proposals


def distance(optimizer: Optimizer) -> float:
    mean = optimizer.mean()
    assert mean is not None
    return math.dist(mean.reals, OPTIMUM.tolist())


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_256_workers_come_as_near_as_16(noise: float) -> None:
    def noisy(seed: int) -> Callable[[Point], float]:
        random = np.random.default_rng(seed)
        return lambda point: value(point) + noise * float(random.standard_normal())

    few, many = (
        np.median([distance(searched(workers, answer=noisy(seed), seed=seed)[0]) for seed in range(3)])
        for workers in (16, 256)
    )
    assert many <= 3 * few


@pytest.mark.parametrize("name", ["cma", "cmaes_lra"])
def test_the_population_follows_the_workers_and_not_one_that_the_user_has_set(name: str) -> None:
    assert searched(4, 300, name=name)[0].generation_size <= 14
    assert searched(256, 1500, name=name)[0].generation_size >= 128
    assert searched(256, 1500, name=name, popsize=16)[0].generation_size <= 17


@pytest.mark.parametrize("name", ["cma", "cmaes_lra"])
def test_the_same_calls_give_the_same_points_with_many_workers(name: str) -> None:
    assert searched(256, 1200, name=name)[1] == searched(256, 1200, name=name)[1]


def test_learning_rates_that_adapt_come_as_near_with_many_workers() -> None:
    few, many = (distance(searched(workers, name="cmaes_lra")[0]) for workers in (16, 256))
    assert many <= 3 * few


def test_more_workers_may_come_in_the_course() -> None:
    optimizer, _ = searched(1, 600)
    before = distance(optimizer)
    waiting = deque(optimizer.ask() for _ in range(200))
    for _ in range(1500):
        proposal = waiting.popleft()
        optimizer.tell(proposal.number, (value(proposal.point),))
        waiting.append(optimizer.ask())
    assert optimizer.generation_size > 100 and distance(optimizer) < 0.01 * before


def test_a_flat_landscape_moves_nothing_out_of_the_domain() -> None:
    optimizer, proposals = searched(256, 1500, answer=lambda point: 0.5)
    assert all(0.0 <= x <= 1.0 for x in proposals[-1].point.reals) and distance(optimizer) < 2.0


def test_values_without_any_signal_do_not_move_the_mean() -> None:
    random = np.random.default_rng(0)
    optimizer, _ = searched(256, 1500, answer=lambda point: float(random.standard_normal()))
    mean = optimizer.mean()
    assert mean is not None and math.dist(mean.reals, (0.5,) * SIZE) < 0.8


@pytest.mark.parametrize("workers", [1, 256])
def test_an_optimum_in_a_corner_is_found(workers: int) -> None:
    optimizer, _ = searched(workers, answer=lambda point: sum(point.reals))
    mean = optimizer.mean()
    assert mean is not None and min(mean.reals) > 0.9


def test_the_mean_itself_is_scored_now_and_then() -> None:
    optimizer = create("cma", Domain(reals=4), objectives=1, seed=0, start=None, options={})
    scored = 0
    for _ in range(200):
        mean = optimizer.mean()
        proposal = optimizer.ask()
        scored += proposal.point == mean
        optimizer.tell(proposal.number, (-sum(proposal.point.reals),))
    assert scored == 200 // (8 * 8 + 1)
