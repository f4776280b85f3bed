"""What pycma is told and when: the parts of the wrapper that its contract does not show."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evomerge.optimizers import Optimizer, Proposal, VectorCodec, create
from evomerge.records import Domain, Point


def make(domain: Domain, seed: int = 0, start: Point | None = None, name: str = "cma", **options: Any) -> Optimizer:
    return create(name, domain, objectives=1, seed=seed, start=start, options=options)


def sphere(point: Point) -> float:
    return -sum((x - 0.3) ** 2 for x in point.reals)


def play(optimizer: Optimizer, count: int, value: Callable[[Point], float | None] = sphere) -> list[Point]:
    points = []
    for _ in range(count):
        proposal = optimizer.ask()
        answer = value(proposal.point)
        optimizer.tell(proposal.number, None if answer is None else (answer,))
        points.append(proposal.point)
    return points


@pytest.mark.parametrize("name", ["cma", "cmaes_lra"])
def test_start_is_the_first_mean_and_the_middle_by_default(name: str) -> None:
    start = Point(reals=(0.2, 0.9, 0.0))
    mean = make(Domain(reals=3), start=start, name=name).mean()
    assert mean is not None and mean.reals == pytest.approx(start.reals, abs=1e-12)
    middle = make(Domain(reals=3), name=name).mean()
    assert middle is not None and middle.reals == pytest.approx((0.5,) * 3)
    with pytest.raises(ValueError, match=r"1\.2"):
        make(Domain(reals=3), start=Point(reals=(1.2, 0.0, 0.0)), name=name)


@pytest.mark.parametrize("name", ["cma", "cmaes_lra"])
@pytest.mark.parametrize("transform", [lambda v: 1e-9 * v, lambda v: 1e6 * v - 5e7, lambda v: math.atan(v)])
def test_only_the_order_of_values_counts(name: str, transform: Callable[[float], float]) -> None:
    plain = play(make(Domain(reals=4), name=name), 60)
    changed = play(make(Domain(reals=4), name=name), 60, lambda point: transform(sphere(point)))
    assert plain == changed


@pytest.mark.parametrize("offset", [1e7, 0.0, -1e7])
def test_a_failure_counts_as_worse_than_every_scored_one_whatever_the_scale(offset: float) -> None:
    def points_with(worst: float | None) -> list[Point]:
        return play(make(Domain(reals=4)), 64, lambda p: worst if p.reals[0] > 0.75 else offset + sphere(p))

    assert points_with(None) == points_with(-1e9)


def test_a_generation_of_mostly_failures_teaches_nothing_and_one_of_fewer_does() -> None:
    for failures, learned in ((5, False), (4, True)):
        optimizer = make(Domain(reals=4), popsize=8)
        before = optimizer.mean()
        proposals = [optimizer.ask() for _ in range(8)]
        for proposal in proposals:
            failed = proposal.number < failures
            optimizer.tell(proposal.number, None if failed else (sphere(proposal.point),))
        assert (optimizer.mean() != before) is learned
        again = optimizer.ask()
        assert again.generation == 1 and again.point not in [proposal.point for proposal in proposals]


def test_the_next_generation_is_drawn_while_one_is_unanswered_and_both_teach() -> None:
    optimizer = make(Domain(reals=4), popsize=6)
    proposals = [optimizer.ask() for _ in range(12)]
    assert [proposal.generation for proposal in proposals] == [0] * 6 + [1] * 6
    means = [optimizer.mean()]
    for proposal in (*proposals[6:], *proposals[:6]):  # the later generation is told first; no ask in between
        optimizer.tell(proposal.number, (sphere(proposal.point),))
        means.append(optimizer.mean())
    assert len(set(means)) == 3 and means[5] == means[0] and means[6] != means[0] and means[12] != means[6]


@pytest.mark.parametrize("name", ["cma", "cmaes_lra"])
def test_overlapping_generations_still_converge(name: str) -> None:
    optimizer = make(Domain(reals=6), name=name)
    pending = [optimizer.ask() for _ in range(15)]
    generator = np.random.default_rng(0)
    for _ in range(900):
        proposal = pending.pop(int(generator.integers(len(pending))))
        optimizer.tell(proposal.number, (sphere(proposal.point),))
        pending.append(optimizer.ask())
    mean = optimizer.mean()
    assert mean is not None and -sphere(mean) < 1e-2


def test_late_drawing_keeps_workers_from_costing_candidates() -> None:
    """Four workers must not need many more candidates than one."""
    errors = []
    for workers in (1, 4):
        logs = []
        for seed in range(3):
            optimizer = make(Domain(reals=8), seed=seed)
            pending = [optimizer.ask() for _ in range(workers)]
            for _ in range(500):
                proposal = pending.pop(0)
                optimizer.tell(proposal.number, (sphere(proposal.point),))
                pending.append(optimizer.ask())
            mean = optimizer.mean()
            assert mean is not None
            logs.append(math.log10(-sphere(mean)))
        errors.append(np.mean(logs))
    assert errors[1] < errors[0] + 0.5


def test_an_injected_point_teaches() -> None:
    """A much better point, seen once, draws the mean toward it; it takes a slot of its generation."""
    target = Point(reals=(0.95,) * 5)
    moved = []
    for injected in (False, True):
        optimizer = make(Domain(reals=5), popsize=8)
        if injected:
            optimizer.inject([target])
        play(optimizer, 8, lambda p: 10.0 if p == target else 0.0)
        mean = optimizer.mean()
        assert mean is not None and optimizer.ask().generation == 1
        moved.append(math.dist(mean.reals, target.reals))
    assert moved[1] < moved[0] - 0.05


def test_restart_doubles_the_population_and_mean_stays_with_what_converged() -> None:
    optimizer = make(Domain(reals=3), popsize=6, tolx=1e-3)
    sizes = []
    for _ in range(1500):
        play(optimizer, 1)
        sizes.append(optimizer.generation_size)
        if sizes[-1] > 7:
            break
    assert sizes[-1] == 12
    mean = optimizer.mean()
    assert mean is not None and -sphere(mean) < 1e-4
    wide = play(optimizer, 12)
    assert max(math.dist(point.reals, mean.reals) for point in wide) > 0.05, "a restart looks around again"
    assert optimizer.mean() == mean


def test_a_restart_cuts_the_generation_in_progress_short() -> None:
    optimizer = make(Domain(reals=3), popsize=6, tolx=1e-3)
    members: dict[int, int] = {}
    pending: list[Proposal] = []
    while optimizer.generation_size < 12 or len(pending) < 4:
        pending.append(optimizer.ask())
        members[pending[-1].generation] = members.get(pending[-1].generation, 0) + 1
        if len(pending) > 3:
            proposal = pending.pop(0)
            optimizer.tell(proposal.number, (sphere(proposal.point),))
        if optimizer.generation_size >= 12:
            break
    *full, cut, new = members.values()
    assert set(full) == {6, 7} and cut < 6 and new == 1


def test_answers_from_before_a_restart_are_taken_and_not_learned_from() -> None:
    def run(late: bool) -> list[Point]:
        optimizer = make(Domain(reals=3), popsize=6, tolx=1e-3)
        play(optimizer, 61)  # one more than ten generations have to learn from: the mean is scored once
        slow = [optimizer.ask() for _ in range(6)]  # a whole generation that takes its time
        while optimizer.generation_size < 12:
            play(optimizer, 1)
        for proposal in slow if late else ():
            optimizer.tell(proposal.number, (1e3,))
        return play(optimizer, 40)

    assert run(late=True) == run(late=False)


def test_integers_are_found_with_reals() -> None:
    domain = Domain(reals=3, integers=(2, 9, 1, 4))
    best = (1, 7, 0, 0)
    optimizer = make(domain, seed=1)
    play(optimizer, 800, lambda p: sphere(p) - sum((i - b) ** 2 for i, b in zip(p.integers, best, strict=True)))
    mean = optimizer.mean()
    assert mean is not None and mean.integers == best and -sphere(mean) < 1e-4


def test_an_integer_that_does_not_matter_yet_is_not_frozen() -> None:
    """The reals converge meanwhile, and would take the integer's spread with them."""
    points = play(
        make(Domain(reals=3, integers=(9,)), seed=1, tolx=0.0), 1200, lambda p: sphere(p) - (p.integers[0] != 4)
    )
    assert len({point.integers for point in points[-600:]}) > 1


def test_outer_levels_are_as_likely_as_the_middle_ones_of_a_wide_distribution() -> None:
    """Half a level more on either side; otherwise rounding halves the outer levels."""
    optimizer = make(Domain(reals=1, integers=(3,)), popsize=900, sigma0=1.0)
    counts = [0, 0, 0]
    for _ in range(900):
        counts[optimizer.ask().point.integers[0]] += 1
    assert min(counts) > 200 and abs(counts[0] - counts[2]) < 100


def test_vectors_on_the_edge_decode_into_the_domain() -> None:
    codec = VectorCodec(domain=Domain(reals=2, integers=(2, 1, 4)))
    point = codec.decode(np.array([-1e-17, 1.0 + 1e-16, 1.5, -0.5 - 1e-9]))
    assert point == Point(reals=(0.0, 1.0), integers=(1, 0, 0))
    assert codec.encode(point).tolist() == [0.0, 1.0, 1.0, 0.0]


def test_diagonal_learns_separable_problems_faster() -> None:
    def valley(point: Point) -> float:
        return -sum(10 ** (4 * k / 23) * (x - 0.4) ** 2 for k, x in enumerate(point.reals))

    reached = []
    for diagonal in (False, True):
        logs = []
        for seed in range(3):
            optimizer = make(Domain(reals=24), seed=seed, diagonal=diagonal)
            play(optimizer, 1500, valley)
            mean = optimizer.mean()
            assert mean is not None
            logs.append(math.log10(-valley(mean)))
        reached.append(np.mean(logs))
    assert reached[1] < reached[0] - 0.5


def test_a_target_that_moves_for_a_long_time_is_no_stagnation() -> None:
    """Ranks have no history; pycma's criteria on values would find no progress in them."""
    optimizer = make(Domain(reals=2), popsize=4)
    for step in range(3200):
        angle = step / 60
        proposal = optimizer.ask()
        x, y = proposal.point.reals
        optimizer.tell(
            proposal.number, (-((x - 0.5 - 0.3 * math.cos(angle)) ** 2) - (y - 0.5 - 0.3 * math.sin(angle)) ** 2,)
        )
    assert optimizer.generation_size <= 5, "a generation of 4, or one that begins with the mean"


def test_quantized_scores_with_plateaus_neither_stop_nor_restart_it() -> None:
    """Accuracies on few items are mostly ties."""
    optimizer = make(Domain(reals=6))
    size = optimizer.generation_size + 1
    play(optimizer, 600, lambda p: round(5 * math.exp(sphere(p))) / 5)
    mean = optimizer.mean()
    assert optimizer.generation_size <= size and mean is not None and sphere(mean) > sphere(Point(reals=(0.5,) * 6))


def test_many_coordinates_overlapping() -> None:
    """pycma switches to two-point step-size adaptation at 300, which an injected generation would break."""
    optimizer = make(Domain(reals=310), diagonal=True)
    optimizer.inject([Point(reals=(0.1,) * 310)])
    proposals = [optimizer.ask() for _ in range(2 * optimizer.generation_size)]
    for proposal in reversed(proposals):
        optimizer.tell(proposal.number, (sphere(proposal.point),))
    assert optimizer.ask().generation == 2


def test_it_is_quiet_and_takes_no_orders_from_the_working_directory(
    capfd: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0}")  # pycma would obey it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, domain in (("cma", Domain(reals=3, integers=(3,))), ("cmaes_lra", Domain(reals=3))):
            optimizer = make(domain, name=name)
            size = optimizer.generation_size
            play(optimizer, 60, lambda p: None if p.reals[0] > 0.6 else sphere(p))
            assert optimizer.generation_size <= size + 1
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]
