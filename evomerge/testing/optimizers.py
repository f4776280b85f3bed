"""The contract of an optimizer as tests. Subclass, say how to create one, and pytest runs them:

class TestMine(OptimizerContract):
    domain = Domain(reals=3)

    def create(self, seed: int) -> Optimizer:
        return MyOptimizer(self.domain, seed)
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from evomerge.optimizers import Optimizer, Proposal, create
from evomerge.records import Domain, Point

_MAX_PENDING = 6


class OptimizerContract(ABC):
    """What evomerge relies on in every optimizer.

    Attributes:
        domain: what `create` is given.
        objectives: number of values that the created optimizer takes.
        learns: whether it must beat random search (scalar only).
        budget: proposals that it gets for that.
    """

    domain: Domain = Domain(reals=4)
    objectives: int = 1
    learns: bool = True
    budget: int = 160

    @abstractmethod
    def create(self, seed: int) -> Optimizer:
        """Return a fresh optimizer for `domain` and `objectives`, without a start point."""

    # -- what the tests share

    def values(self, point: Point) -> tuple[float, ...]:
        """A sphere per objective, each with another optimum; 0 is best."""
        return tuple(-self._distance(point, 0.3 + 0.2 * k) for k in range(self.objectives))

    def _distance(self, point: Point, optimum: float) -> float:
        integers = zip(point.integers, self.domain.integers, strict=True)
        squares = [(x - optimum) ** 2 for x in point.reals]
        squares += [(level / max(levels - 1, 1) - optimum) ** 2 for level, levels in integers]
        return sum(squares) + 0.1 * sum(option != 0 for option in point.categories)

    def other_point(self) -> Point:
        """A point that no optimizer proposes by itself."""
        return Point(
            reals=tuple(0.111 + 0.001 * k for k in range(self.domain.reals)),
            integers=tuple(levels - 1 for levels in self.domain.integers),
            categories=tuple(options - 1 for options in self.domain.categories),
        )

    def interleaved(
        self, optimizer: Optimizer, asks: int, disturb: Callable[[], None] = lambda: None
    ) -> Iterator[Proposal]:
        """Ask and tell as workers do: several unanswered, out of order, one in five failed, one point injected."""
        script = np.random.Generator(np.random.PCG64(7))
        pending: list[Proposal] = []
        for count in range(asks):
            disturb()
            if count == asks // 2:
                optimizer.inject([self.other_point()])
            proposal = optimizer.ask()
            yield proposal
            pending.append(proposal)
            while len(pending) > script.integers(0, _MAX_PENDING):
                answered = pending.pop(int(script.integers(len(pending))))
                failed = script.random() < 0.2
                optimizer.tell(answered.number, None if failed else self.values(answered.point))

    def assert_inside(self, point: Point) -> None:
        """Fail unless the point lies in the domain, in plain Python numbers."""
        assert len(point.reals) == self.domain.reals
        assert all(type(x) is float and 0.0 <= x <= 1.0 for x in point.reals), point
        for levels, chosen in ((self.domain.integers, point.integers), (self.domain.categories, point.categories)):
            assert len(levels) == len(chosen)
            assert all(type(x) is int and 0 <= x < count for x, count in zip(chosen, levels, strict=True)), point

    # -- asking

    def test_a_name_is_a_word(self) -> None:
        assert self.create(0).name.isidentifier()

    def test_takes_the_declared_number_of_values(self) -> None:
        assert self.create(0).objectives == self.objectives

    def test_proposals_are_numbered_from_zero(self) -> None:
        proposals = list(self.interleaved(self.create(0), 60))
        assert [proposal.number for proposal in proposals] == list(range(60))

    def test_points_and_mean_lie_in_the_domain(self) -> None:
        optimizer = self.create(0)
        for proposal in self.interleaved(optimizer, 150):
            self.assert_inside(proposal.point)
            if (mean := optimizer.mean()) is not None:
                self.assert_inside(mean)

    def test_generations_start_at_zero_never_decrease_and_are_full(self) -> None:
        optimizer = self.create(0)
        sizes: dict[int, int] = {}
        counts: dict[int, int] = {}
        previous = 0
        for proposal in self.interleaved(optimizer, 100):
            assert proposal.generation in (previous, previous + 1)
            previous = proposal.generation
            sizes[previous] = optimizer.generation_size
            counts[previous] = counts.get(previous, 0) + 1
        counts.pop(previous)
        assert counts and all(sizes[generation] == count for generation, count in counts.items())

    def test_asking_never_waits_for_answers(self) -> None:
        optimizer = self.create(0)
        proposals = [optimizer.ask() for _ in range(3 * optimizer.generation_size + 1)]
        for proposal in reversed(proposals):
            optimizer.tell(proposal.number, self.values(proposal.point))
        self.assert_inside(optimizer.ask().point)

    # -- determinism

    def test_replaying_the_calls_gives_the_same_points(self) -> None:
        first = list(self.interleaved(self.create(3), 120))
        assert list(self.interleaved(self.create(3), 120)) == first

    def test_another_seed_gives_other_points(self) -> None:
        first, second = (list(self.interleaved(self.create(seed), 30)) for seed in (0, 1))
        assert [p.point for p in first] != [p.point for p in second]

    def test_global_random_states_are_neither_used_nor_changed(self) -> None:
        expected = list(self.interleaved(self.create(0), 80))
        numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()
        try:
            assert list(self.interleaved(self.create(0), 80)) == expected
            assert str(np.random.get_state(legacy=False)) == str(numpy_state)
            assert random.getstate() == python_state

            def reseed() -> None:  # lm-eval does so at every evaluation
                np.random.seed(1234)
                random.seed(0)

            assert list(self.interleaved(self.create(0), 80, reseed)) == expected
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)

    # -- telling

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_non_finite_values_are_refused_and_leave_the_proposal_open(self, bad: float) -> None:
        optimizer = self.create(0)
        proposal = optimizer.ask()
        with pytest.raises(ValueError, match="finite"):
            optimizer.tell(proposal.number, (*self.values(proposal.point)[1:], bad))
        optimizer.tell(proposal.number, self.values(proposal.point))

    def test_wrong_answers_are_refused(self) -> None:
        optimizer = self.create(0)
        proposal = optimizer.ask()
        values = self.values(proposal.point)
        with pytest.raises(ValueError, match="values"):
            optimizer.tell(proposal.number, (*values, 0.0))
        with pytest.raises(ValueError, match="never asked"):
            optimizer.tell(proposal.number + 1, values)
        optimizer.tell(proposal.number, values)
        with pytest.raises(ValueError, match="already"):
            optimizer.tell(proposal.number, values)

    def test_whole_generations_may_fail(self) -> None:
        optimizer = self.create(0)
        for _ in range(3 * optimizer.generation_size):
            optimizer.tell(optimizer.ask().number, None)
        seen = set()
        for _ in range(3 * optimizer.generation_size):
            proposal = optimizer.ask()
            self.assert_inside(proposal.point)
            seen.add(proposal.point)
            optimizer.tell(proposal.number, self.values(proposal.point))
        assert len(seen) > optimizer.generation_size

    def test_equal_values_everywhere_do_no_harm(self) -> None:
        optimizer = self.create(0)
        points = []
        for _ in range(12 * optimizer.generation_size):
            proposal = optimizer.ask()
            self.assert_inside(proposal.point)
            points.append(proposal.point)
            optimizer.tell(proposal.number, (0.5,) * self.objectives)
        assert len(set(points[-optimizer.generation_size :])) > 1

    # -- injecting

    def test_injected_points_come_next_and_verbatim(self) -> None:
        optimizer = self.create(0)
        for _ in range(5):  # somewhere inside a generation
            proposal = optimizer.ask()
            optimizer.tell(proposal.number, self.values(proposal.point))
        points = [self.other_point(), replace(self.other_point(), reals=(1.0,) * self.domain.reals)]
        given = list(points)
        optimizer.inject(given)
        proposals = [optimizer.ask(), optimizer.ask()]
        assert [proposal.point for proposal in proposals] == points == given
        assert [proposal.number for proposal in proposals] == [5, 6]
        for proposal in proposals:
            optimizer.tell(proposal.number, self.values(proposal.point))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_point_without_a_number_is_refused(self, bad: float) -> None:
        if self.domain.reals:
            with pytest.raises(ValueError, match="expected a number"):
                self.create(0).inject([replace(self.other_point(), reals=(bad,) * self.domain.reals)])

    def test_a_point_outside_the_domain_is_refused_and_so_are_those_given_with_it(self) -> None:
        optimizer = self.create(0)
        outside = replace(self.other_point(), reals=(1.5,) * (self.domain.reals or 1))
        with pytest.raises(ValueError, match=r"1\.5|point has"):
            optimizer.inject([self.other_point(), outside])
        assert optimizer.ask().point != self.other_point()

    # -- learning

    def test_beats_random_search_on_a_sphere(self) -> None:
        if not self.learns or self.objectives > 1:
            pytest.skip("a baseline, or not scalar")
        mine = [self._best(self.create(seed)) for seed in range(5)]
        chance = [
            self._best(create("random", self.domain, objectives=1, seed=seed, start=None, options={}))
            for seed in range(5)
        ]
        assert np.mean(mine) > np.mean(chance) and sum(m > c for m, c in zip(mine, chance, strict=True)) >= 4

    def _best(self, optimizer: Optimizer) -> float:
        best = -np.inf
        for _ in range(self.budget):
            proposal = optimizer.ask()
            value = self.values(proposal.point)
            best = max(best, value[0])
            optimizer.tell(proposal.number, value)
        return float(best)
