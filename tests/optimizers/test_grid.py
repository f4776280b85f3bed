"""The grid: complete, then finer, in another order for another seed."""

from evomerge.optimizers import create
from evomerge.records import Domain


def points(domain: Domain, count: int, seed: int = 0, **options: int) -> list[tuple[float, ...]]:
    optimizer = create("grid", domain, objectives=1, seed=seed, start=None, options=options)
    found = [optimizer.ask().point for _ in range(count)]
    return [(*point.reals, *point.integers, *point.categories) for point in found]


def test_every_point_once_then_those_in_between() -> None:
    domain = Domain(reals=1, categories=(2,))
    coarse = [(real, choice) for real in (0.0, 0.5, 1.0) for choice in (0, 1)]
    found = points(domain, 10, points=3)
    assert sorted(found[:6]) == coarse
    assert sorted(found[6:]) == [(real, choice) for real in (0.25, 0.75) for choice in (0, 1)]
    assert points(domain, 6, seed=1, points=3) != found[:6]


def test_a_domain_without_reals_begins_again() -> None:
    found = points(Domain(integers=(3, 2)), 12)
    assert len(set(found)) == 6 and sorted(found[:6]) == sorted(found[6:])
