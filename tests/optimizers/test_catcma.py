"""CatCMA: its vectors, what it finds on planted landscapes, and its restarts."""

import numpy as np
import pytest

from evomerge.optimizers import Optimizer, create
from evomerge.records import Domain, Point
from evomerge.testing.landscapes import MixedLandscape

_MIXED = Domain(reals=6, integers=(5, 2, 1, 3), categories=(3, 1, 4, 2))


def make(
    domain: Domain, seed: int = 0, start: Point | None = None, name: str = "catcma", **options: float
) -> Optimizer:
    return create(name, domain, objectives=1, seed=seed, start=start, options=options)


def best_accuracy(optimizer: Optimizer, landscape: MixedLandscape, candidates: int) -> float:
    """Return the expected accuracy of the best point, chosen by the scores of 64 items that a generation shares."""
    best = (0.0, 0.0)
    for _ in range(candidates):
        proposal = optimizer.ask()
        seen = landscape.embedded(proposal.point)
        items = np.random.default_rng(proposal.generation).choice(landscape.search_items, 64, replace=False)
        score = float(np.mean(landscape.margins(seen, items) > 0))
        best = max(best, (score, landscape.accuracy(seen)))
        optimizer.tell(proposal.number, (score,))
    mean = optimizer.mean()
    return best[1] if mean is None else landscape.accuracy(landscape.embedded(mean))


def test_the_first_points_vary_around_the_start() -> None:
    start = Point(reals=(0.3,) * 6, integers=(4, 1, 0, 2), categories=(2, 0, 3, 1))
    optimizer = make(_MIXED, start=start, sigma0=0.05)
    assert optimizer.mean() == start
    points = [optimizer.ask().point for _ in range(40)]
    same = [sum(a == b for a, b in zip(p.categories, start.categories, strict=True)) for p in points]
    assert np.mean(same) > 2 and min(same) < 4  # the choice of one option always agrees
    assert np.std([point.reals[0] for point in points]) < 0.1
    assert len({point.integers[1] for point in points}) == 2  # the bit is varied, too
    assert {point.integers[2] for point in points} == {0}


@pytest.mark.parametrize(
    ("domain", "gated"),
    [(Domain(reals=8, integers=(5,) * 4, categories=(3,) * 6), False), (Domain(reals=8, categories=(2,) * 8), True)],
)
def test_it_beats_random_search_on_mixed_landscapes(domain: Domain, gated: bool) -> None:
    for seed in (0, 1, 2):
        landscape = MixedLandscape(domain, seed=seed, gated=gated)
        found = best_accuracy(make(domain, seed), landscape, 600)
        chance = best_accuracy(make(domain, seed, name="random"), landscape, 600)
        assert found > chance + 0.02 and found > 0.56, (seed, found, chance)


def test_integers_are_found_exactly() -> None:
    domain = Domain(reals=6, integers=(5,) * 12)
    for seed in range(3):
        optimizer, target = make(domain, seed), np.random.default_rng(seed).integers(0, 5, 12)
        for _ in range(600):
            proposal = optimizer.ask()
            off = np.abs(np.array(proposal.point.integers) - target) / 4
            optimizer.tell(proposal.number, (-float(off @ off) - sum((x - 0.4) ** 2 for x in proposal.point.reals),))
        mean = optimizer.mean()
        assert mean is not None and mean.integers == tuple(target)


def test_it_restarts_with_a_larger_population_and_keeps_its_mean() -> None:
    domain = Domain(reals=2, categories=(2,))
    optimizer = make(domain, tolx=0.02)
    first = optimizer.generation_size
    for _ in range(400):
        proposal = optimizer.ask()
        point = proposal.point
        optimizer.tell(proposal.number, (point.categories[0] - sum((x - 0.7) ** 2 for x in point.reals),))
    mean = optimizer.mean()
    assert optimizer.generation_size > first
    assert mean is not None and mean.categories == (1,) and max(abs(x - 0.7) for x in mean.reals) < 0.05
