"""M2N2: who stays in the archive, who mates with whom, and what a child has of both."""

from itertools import pairwise

import numpy as np
import pytest

from evomerge.optimizers import ItemOptimizer, ItemValue, create
from evomerge.records import Domain, Point
from evomerge.testing.landscapes import MixedLandscape

SIX = Domain(reals=6)


def make(domain: Domain = SIX, seed: int = 0, **options: float) -> ItemOptimizer:
    optimizer = create("m2n2", domain, objectives=1, seed=seed, start=None, options=options)
    assert isinstance(optimizer, ItemOptimizer)
    return optimizer


def tell(optimizer: ItemOptimizer, point: Point, earned: dict[str, float]) -> None:
    """Score an injected point."""
    optimizer.inject([point])
    proposal = optimizer.ask()
    optimizer.tell_items(proposal.number, {name: ItemValue(value, 1.0) for name, value in earned.items()})
    optimizer.tell(proposal.number, (sum(earned.values()) / len(earned),))


def constant(value: float) -> Point:
    return Point(reals=(value,) * 6)


def reals_of_children(optimizer: ItemOptimizer, count: int = 40) -> np.ndarray:
    children = []
    for _ in range(count):
        proposal = optimizer.ask()
        children.append(proposal.point.reals)
        optimizer.tell(proposal.number, None)
    return np.array(children)


def test_a_specialist_survives_generalists_of_a_higher_mean() -> None:
    """Four points share the items a, b, c; one point alone answers d. The mean would drop it."""
    optimizer = make(archive=4, noise=0.0)
    tell(optimizer, constant(0.9), {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0})
    for value in (0.1, 0.11, 0.12, 0.13):
        tell(optimizer, constant(value), {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0})
    children = reals_of_children(optimizer)
    assert children.max() > 0.5


def test_a_mate_is_good_where_the_parent_is_not() -> None:
    """Of three points, two answer the same items: children mix across, never the two with each other."""
    optimizer = make(archive=3, noise=0.0)
    tell(optimizer, constant(0.0), {"a": 1.0, "b": 0.0})
    tell(optimizer, constant(0.1), {"a": 1.0, "b": 0.0})
    tell(optimizer, constant(1.0), {"a": 0.0, "b": 1.0})
    mixed = [sorted(set(child)) for child in reals_of_children(optimizer)]
    sums = {round(values[0] + values[1], 9) for values in mixed if len(values) == 2}
    assert sums <= {1.0, 1.1} and len(sums) == 2  # w and 1 - w of 0 and 1, or of 0.1 and 1; never of 0 and 0.1


def test_a_child_mixes_two_points_on_either_side_of_a_coordinate() -> None:
    optimizer = make(archive=2, noise=0.0)
    tell(optimizer, constant(0.2), {"a": 1.0, "b": 0.0})
    tell(optimizer, constant(0.6), {"a": 0.0, "b": 1.0})
    for child in reals_of_children(optimizer):
        shares = sorted({round((x - 0.2) / 0.4, 9) for x in child})
        assert len(shares) in (1, 2) and all(0 <= share <= 1 for share in shares)
        if len(shares) == 2:
            assert sum(shares) == pytest.approx(1)
            assert sum(a != b for a, b in pairwise(child)) == 1


def test_choices_come_from_one_of_the_two() -> None:
    domain = Domain(integers=(9,) * 3, categories=(5,) * 3)
    optimizer = make(domain, archive=2, noise=0.0)
    tell(optimizer, Point(integers=(1, 1, 1), categories=(1, 1, 1)), {"a": 1.0, "b": 0.0})
    tell(optimizer, Point(integers=(8, 8, 8), categories=(4, 4, 4)), {"a": 0.0, "b": 1.0})
    children = [optimizer.ask().point for _ in range(60)]
    assert {option for child in children for option in child.categories} == {1, 4}
    assert {level for child in children for level in child.integers} > {1, 8}


def test_items_that_only_some_were_scored_on_are_compared_by_those() -> None:
    """The third is worse where it was compared with the others; that it saw fewer items must not decide."""
    optimizer = make(archive=2, noise=0.0)
    tell(optimizer, constant(0.1), {"a": 1.0, "b": 1.0, "c": 1.0})
    tell(optimizer, constant(0.2), {"b": 1.0, "c": 1.0, "d": 1.0})
    tell(optimizer, constant(0.9), {"c": 0.0, "d": 0.0})
    assert reals_of_children(optimizer).max() < 0.3


def test_it_beats_random_search_by_items() -> None:
    landscape = MixedLandscape(Domain(reals=16, categories=(3,) * 3), seed=1)
    found = {}
    for name in ("m2n2", "random"):
        optimizer = create(name, landscape.domain, objectives=1, seed=1, start=None, options={})
        best = (0.0, 0.0)
        for _ in range(800):
            proposal = optimizer.ask()
            seen = landscape.embedded(proposal.point)
            items = np.random.default_rng(proposal.generation).choice(1000, 64, replace=False)
            right = (landscape.margins(seen, items) > 0).astype(float)
            if isinstance(optimizer, ItemOptimizer):
                earned = {str(item): ItemValue(float(value), 1.0) for item, value in zip(items, right, strict=True)}
                optimizer.tell_items(proposal.number, earned)
            optimizer.tell(proposal.number, (float(right.mean()),))
            best = max(best, (float(right.mean()), landscape.accuracy(seen)))
        found[name] = best[1]
    assert found["m2n2"] > found["random"] + 0.03, found


def test_item_scores_of_an_answered_proposal_are_refused() -> None:
    optimizer = make()
    tell(optimizer, constant(0.5), {"a": 1.0})
    with pytest.raises(ValueError, match="already"):
        optimizer.tell_items(0, {})
