"""The contract of a space as tests. Subclass, say how to create one, and pytest runs them:

class TestMine(SpaceContract):
    def create(self) -> Space:
        return MySpace(...)
"""

import json
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from evomerge.recipe import parse_recipe
from evomerge.records import Domain, Point
from evomerge.space import Space


class SpaceContract(ABC):
    """What evomerge relies on in every space.

    Attributes:
        encodes: whether `encode` inverts `decode`; else it must refuse every recipe.
        samples: number of random points that are tried.
    """

    encodes: bool = True
    samples: int = 24

    @abstractmethod
    def create(self) -> Space:
        """Return the space; the same one at every call."""

    # -- what the tests share

    def points(self, space: Space) -> Iterator[Point]:
        """Yield the start, the lowest and highest corner, and random points, a half of them corners."""
        yield space.start
        domain = space.domain
        yield self.point_at(domain, np.zeros(domain.size))
        yield self.point_at(domain, np.ones(domain.size))
        generator = np.random.Generator(np.random.PCG64(0))
        for number in range(self.samples):
            unit = generator.random(domain.size)
            yield self.point_at(domain, np.rint(unit) if number % 2 else unit)

    def point_at(self, domain: Domain, unit: "np.typing.NDArray[np.float64]") -> Point:
        """Return the point at coordinates of the unit cube, shape (domain.size,), both ends included."""
        counts = domain.integers + domain.categories
        levels = [min(int(u * count), count - 1) for u, count in zip(unit[domain.reals :], counts, strict=True)]
        integers = len(domain.integers)
        return Point(
            reals=tuple(float(u) for u in unit[: domain.reals]),
            integers=tuple(levels[:integers]),
            categories=tuple(levels[integers:]),
        )

    # -- what a search reads first

    def test_it_has_every_member_of_a_space(self) -> None:
        assert isinstance(self.create(), Space)

    def test_coordinates_are_named_once_each(self) -> None:
        space = self.create()
        names = list(space.coordinates)
        assert len(names) == len(set(names)) == space.domain.size > 0
        assert all(isinstance(name, str) and name for name in names)

    def test_the_start_is_a_point_of_the_domain(self) -> None:
        space = self.create()
        space.domain.check(space.start)

    def test_the_description_is_plain_data(self) -> None:
        description = self.create().description
        assert description and json.loads(json.dumps(description)) == dict(description)

    # -- decoding

    def test_points_decode_to_valid_recipes_in_plain_data(self) -> None:
        space = self.create()
        for point in self.points(space):
            document = space.decode(point)
            assert json.loads(json.dumps(document)) == document
            parse_recipe(document)
            assert space.dtype is None or document["dtype"] == space.dtype

    def test_a_point_decodes_to_the_same_recipe_every_time(self) -> None:
        space, again = self.create(), self.create()
        for point in self.points(space):
            document = space.decode(point)
            first = json.dumps(document)
            document.clear()  # what a caller does with a recipe is its own business
            assert json.dumps(space.decode(point)) == json.dumps(again.decode(point)) == first

    def test_it_survives_pickling(self) -> None:
        space = self.create()
        copy = pickle.loads(pickle.dumps(space))
        assert (copy.domain, copy.start, list(copy.coordinates)) == (space.domain, space.start, list(space.coordinates))
        assert copy.description == space.description
        assert all(copy.decode(point) == space.decode(point) for point in self.points(space))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5, 1.5])
    def test_a_point_outside_the_domain_is_refused(self, bad: float) -> None:
        space = self.create()
        start = space.start
        with pytest.raises(ValueError, match="point"):
            space.decode(replace(start, reals=(*start.reals, 0.5)))
        if start.reals:
            with pytest.raises(ValueError, match="point"):
                space.decode(replace(start, reals=(bad, *start.reals[1:])))

    def test_it_holds_no_more_recipes_than_it_counts(self) -> None:
        space = self.create()
        count = space.recipe_count
        recipes = {json.dumps(space.decode(point), sort_keys=True) for point in self.points(space)}
        assert count is None or len(recipes) <= count

    # -- encoding

    def test_encoding_inverts_decoding(self) -> None:
        space = self.create()
        for point in self.points(space):
            document = space.decode(point)
            if not self.encodes:
                with pytest.raises(ValueError, match=r"\w"):
                    space.encode(document)
                continue
            encoded = space.encode(json.loads(json.dumps(document)))
            space.domain.check(encoded)
            assert space.decode(encoded) == document

    def test_a_recipe_of_other_models_is_refused(self) -> None:
        document = {"merge_method": "linear", "models": [{"model": "./no/such/parent", "parameters": {"weight": 1.0}}]}
        with pytest.raises(ValueError, match=r"\w"):
            self.create().encode(document)
