"""Points and domains as numbers: the middle, draws, and the vector that a continuous optimizer sees."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import Domain, Point

Vector = npt.NDArray[np.float64]


def center(domain: Domain) -> Point:
    """Return the middle of the domain: reals 0.5, integers their (lower) middle, categories their first option."""
    return Point(
        reals=(0.5,) * domain.reals,
        integers=tuple((levels - 1) // 2 for levels in domain.integers),
        categories=(0,) * len(domain.categories),
    )


def point_from_unit(domain: Domain, unit: Vector) -> Point:
    """Return the point that numbers in the unit cube describe.

    Args:
        domain: of the point.
        unit: shape (domain.size,), in [0, 1): reals as they are, then integers and categories, whose levels and options
            have equal shares of the interval.
    """
    reals = domain.reals
    counts = domain.integers + domain.categories
    whole = tuple(min(int(u * count), count - 1) for u, count in zip(unit[reals:], counts, strict=True))
    integers = len(domain.integers)
    return Point(reals=tuple(float(u) for u in unit[:reals]), integers=whole[:integers], categories=whole[integers:])


def varied(domain: Domain) -> int:
    """Return the number of coordinates that can take more than one value."""
    return domain.reals + sum(count > 1 for count in domain.integers + domain.categories)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorCodec:
    """Point <-> vector for optimizers of numbers: the reals, then the integers that have more than one level.

    Integers keep their own scale 0..levels-1; constant ones are left out, because pycma cannot hold a coordinate that
    has no width. Categories are refused: an order among them would be invented.

    Attributes:
        domain: of the points.

    Raises:
        InvalidInput: the domain has categories.
    """

    domain: Domain

    def __post_init__(self) -> None:
        if self.domain.categories:
            raise InvalidInput(
                "this optimizer has no categories; choose catcma, tpe or nsga2, or remove the categorical genes"
            )

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the integers in the vector."""
        return tuple(count for count in self.domain.integers if count > 1)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.domain.reals + len(self.levels)

    def encode(self, point: Point) -> Vector:
        """Return the point as a vector of shape (size,)."""
        integers = [v for v, count in zip(point.integers, self.domain.integers, strict=True) if count > 1]
        return np.array([*point.reals, *integers], dtype=np.float64)

    def decode(self, vector: Vector) -> Point:
        """Return the nearest point of the domain.

        Args:
            vector: shape (size,), finite; may lie outside the domain.
        """
        reals = np.clip(vector[: self.domain.reals], 0.0, 1.0)
        rounded = iter(np.rint(vector[self.domain.reals :]))
        integers = (min(max(int(next(rounded)), 0), n - 1) if n > 1 else 0 for n in self.domain.integers)
        return Point(reals=tuple(float(v) for v in reals), integers=tuple(integers))
