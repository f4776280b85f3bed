"""Stages: one part of a point after the other, around what the last one ended at."""

from evomerge.optimizers import StageOptimizer, create_by_stages
from evomerge.records import Domain, Point, Stage
from evomerge.testing.optimizers import OptimizerContract

DOMAIN = Domain(reals=4, integers=(5,), categories=(3, 2, 2))
STAGES = (
    Stage("first", range(2), range(0), range(1), 0.5),
    Stage("second", range(2, 4), range(1), range(1, 3), 0.5),
)
START = Point(reals=(0.5,) * 4, integers=(2,), categories=(0, 0, 0))


def make(name: str = "catcma", planned: int = 60, seed: int = 0) -> StageOptimizer:
    optimizer = create_by_stages(
        name, DOMAIN, STAGES, objectives=1, seed=seed, start=START, planned=planned, options={}
    )
    assert isinstance(optimizer, StageOptimizer)
    return optimizer


class TestStages(OptimizerContract):
    domain = DOMAIN

    def create(self, seed: int) -> StageOptimizer:
        return make(planned=40, seed=seed)


class TestStagesWithoutAMean(OptimizerContract):
    domain = DOMAIN
    learns = False

    def create(self, seed: int) -> StageOptimizer:
        return make("m2n2", planned=40, seed=seed)


def value(point: Point) -> float:
    return -sum((x - 0.8) ** 2 for x in point.reals) - 0.1 * (4 - point.integers[0]) + 0.2 * sum(point.categories)


def test_each_stage_varies_its_part_and_keeps_what_the_last_one_found() -> None:
    optimizer = make(planned=200)
    first, second = [], []
    for _ in range(260):
        proposal = optimizer.ask()
        (first if optimizer.stage == 0 else second).append(proposal)
        optimizer.tell(proposal.number, (value(proposal.point),))
    assert 100 <= len(first) <= 100 + first[0].number + optimizer.generation_size * 2
    assert {(p.point.reals[2:], p.point.integers, p.point.categories[1:]) for p in first} == {
        ((0.5, 0.5), (2,), (0, 0))
    }
    kept = {(p.point.reals[:2], p.point.categories[:1]) for p in second}
    assert len(kept) == 1
    reals, categories = kept.pop()
    assert categories == (2,) and max(abs(x - 0.8) for x in reals) < 0.1
    assert second[0].generation == first[-1].generation + 1
    mean = optimizer.mean()
    assert mean is not None and mean.integers == (4,) and value(mean) > value(START) + 1


def test_without_a_mean_the_best_point_is_kept() -> None:
    optimizer = make("tpe", planned=40)
    points = []
    while optimizer.stage == 0:
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, (value(proposal.point),))
        points.append(proposal.point)
    best = max(points[:-1], key=value)
    assert points[-1].reals[:2] == best.reals[:2] and points[-1].categories[0] == best.categories[0]


def test_late_answers_of_the_first_stage_are_taken_and_teach_nothing() -> None:
    optimizer = make(planned=20)
    late = optimizer.ask()
    while optimizer.stage == 0:
        optimizer.ask()
    before = optimizer.mean()
    optimizer.tell(late.number, (value(late.point),))
    assert optimizer.mean() == before
