"""Every kind of space that comes with evomerge keeps the shipped contract, and so may one from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import InvalidInput
from evomerge.records import Domain, ParentSummary, Point
from evomerge.space import Space, build_space, read_space, shipped_spaces
from evomerge.testing.spaces import SpaceContract
from tests.space.parents import summary

BASE, ONE, TWO = (summary(f"./models/{name}", 3) for name in ("base", "one", "two"))


class _Built(SpaceContract):
    data: Any = None
    models: tuple[ParentSummary, ...] = (ONE, TWO)

    def create(self) -> Space:
        data, where = read_space(self.data, Path(), "search.yaml")
        return build_space(data, where, BASE, self.models)


class TestShipped(_Built):
    @pytest.fixture(params=sorted(shipped_spaces()), autouse=True)
    def _shipped(self, request: pytest.FixtureRequest) -> None:
        self.data = request.param
        self.models = (ONE,) if "slerp" in request.param else (ONE, TWO)


class TestMethodAsAChoice(_Built):
    data = {  # noqa: RUF012
        "method": ["task_arithmetic", "ties", "linear"],
        "genes": {"weight": {"per": ["model", "module"], "range": [0.1, 1.7]}, "density": {"range": [0.2, 0.9]}},
        "dtype": "float32",
    }


class TestNarrowRanges(_Built):
    data = {  # noqa: RUF012
        "method": "ties",
        "genes": {"weight": {"per": "model", "range": [0.5, 0.5000001]}, "density": {"range": [0.0001, 0.0009]}},
    }


class TestWholeStack(_Built):
    data = {  # noqa: RUF012
        "method": "passthrough",
        "genes": {"source": {"per": "layer"}, "repeat": {"per": "layer", "range": [0, 3]}, "gain": {"range": [0.5, 2]}},
    }


class TestStackNamedByItsKind(_Built):
    data = {"kind": "stack", "method": "passthrough", "genes": {"gain": {"per": "layer"}}}  # noqa: RUF012


class TestDataFlowInTheOrderOfThePaper(_Built):
    data = {"kind": "data_flow", "order": "parents", "repeats": 3, "most_layers": 5, "dtype": "float32"}  # noqa: RUF012


class TestDataFlowOfReals(_Built):
    data = {"kind": "data_flow", "indicator": "real", "gain": [0.8, 1.1], "evomerge": {"seed": 3}}  # noqa: RUF012


class TestDataFlowWithoutGains(_Built):
    data = {"kind": "data_flow", "gain": None, "repeats": 2}  # noqa: RUF012


class TestStackMoves(_Built):
    data = {"kind": "data_flow", "moves": 5, "most_layers": 6}  # noqa: RUF012
    encodes = False


class TestStackMovesWithoutGains(_Built):
    data = {"kind": "data_flow", "moves": 2, "gain": None}  # noqa: RUF012
    encodes = False


class OneWeight:
    """A space in a few lines: one interpolation weight, in hundredths; it cannot encode."""

    domain = Domain(reals=1)
    coordinates = ("share of one",)
    start = Point(reals=(0.5,))
    recipe_count = 101
    dtype = None

    def __init__(self, low: float = 0.0):
        self.low = low

    @property
    def description(self) -> Mapping[str, Any]:
        return {"one weight": True, "low": self.low}

    def decode(self, point: Point) -> dict[str, Any]:
        self.domain.check(point)
        share = round(self.low + point.reals[0] * (1 - self.low), 2)
        weights = ((ONE.name, share), (TWO.name, round(1 - share, 2)))
        models = [{"model": name, "parameters": {"weight": weight}} for name, weight in weights]
        return {"merge_method": "linear", "models": models}

    def encode(self, document: Mapping[str, Any]) -> Point:
        raise InvalidInput("recipes are not read back into this space")


class TestOneWeight(SpaceContract):
    encodes = False

    def create(self) -> Space:
        return build_space(OneWeight(), "space", None, (ONE, TWO))
