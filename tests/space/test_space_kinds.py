"""Kinds of space by name, spaces as objects, how many recipes a space has, and grids of narrow ranges."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.records import Domain, ParentSummary, Point
from evomerge.space import (
    KINDS,
    MergeSpace,
    Space,
    SpaceKind,
    StackSpace,
    build_space,
    get_kind,
    kind_names,
    read_space,
    register,
    space_schema,
)
from tests.space.test_space_contract import BASE, ONE, TWO, OneWeight

MERGE: dict[str, Any] = {"method": "ties", "genes": {"weight": {"per": "model"}, "density": {}}}
STACK: dict[str, Any] = {"method": "passthrough", "genes": {"repeat": {"per": "layer"}}}


def built(data: Any) -> Space:
    return build_space(data, "space", BASE, (ONE, TWO))


# -- kinds ------------------------------------------------------------------------------------------------------------


def build_one_weight(
    data: Any, *, where: str, base: ParentSummary | None, models: Sequence[ParentSummary]
) -> OneWeight:
    return OneWeight(**data)


ONE_WEIGHT = SpaceKind(name="one_weight", description="a test's", build=build_one_weight)


def test_the_kind_follows_from_the_method_and_can_be_named() -> None:
    assert isinstance(built(MERGE), MergeSpace) and isinstance(built({**MERGE, "kind": "merge"}), MergeSpace)
    assert isinstance(built(STACK), StackSpace) and isinstance(built({**STACK, "kind": "stack"}), StackSpace)
    with pytest.raises(InvalidFile, match="a stack merges nothing"):
        built({**MERGE, "kind": "stack"})
    with pytest.raises(InvalidFile, match=r'space: kind: no space kind is called "stak".*Did you mean "stack"'):
        built({**STACK, "kind": "stak"})


def test_a_registered_kind_gets_its_part_of_the_file() -> None:
    register(ONE_WEIGHT)
    register(ONE_WEIGHT)  # notebooks run a cell again
    assert kind_names()[: len(KINDS) + 1] == (*KINDS, "one_weight") and get_kind("one_weight") is ONE_WEIGHT
    space = built({"kind": "one_weight", "low": 0.5})
    assert space.decode(Point(reals=(0.0,)))["models"][0]["parameters"] == {"weight": 0.5}
    with pytest.raises(InvalidInput, match="choose another name"):
        register(SpaceKind(name="merge", description="", build=build_one_weight))
    with pytest.raises(InvalidInput, match=r"found str, expected an evomerge\.space\.SpaceKind"):
        register("merge")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="letters, digits"):
        SpaceKind(name="one weight", description="", build=build_one_weight)


_PACKAGE = """
from evomerge.space import KINDS, SpaceKind
KIND = SpaceKind(name="installed", description="", build=KINDS["merge"].build)
"""
_ENTRY_POINTS = """
[evomerge.spaces]
installed = outside_space:KIND
renamed = outside_space:KIND
"""
_USE = """
from evomerge.space import get_kind, kind_names
print(kind_names()[-2:], get_kind("installed").name)
try:
    get_kind("renamed")
except ValueError as error:
    print(error)
"""


def test_installed_packages_bring_kinds(tmp_path: Path) -> None:
    (tmp_path / "outside_space.py").write_text(_PACKAGE)
    metadata = tmp_path / "outside_space-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-space\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", _USE], env=environment, capture_output=True, text=True, check=True)
    known, renamed = done.stdout.splitlines()
    assert known == "('installed', 'renamed') installed" and "the names must be equal" in renamed


def test_the_schema_names_our_kinds_and_leaves_others_open() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(space_schema())
    assert not list(validator.iter_errors({**STACK, "kind": "stack"}))
    assert not list(validator.iter_errors({"kind": "one_weight", "low": 0.5}))
    assert list(validator.iter_errors({**STACK, "kind": "merge", "genez": {}}))


# -- objects ----------------------------------------------------------------------------------------------------------


def test_an_object_is_taken_as_it_is() -> None:
    space = OneWeight()
    read, where = read_space(space, Path(), "search")
    assert read is space and build_space(read, where, None, (ONE, TWO)) is space


class Unnamed(OneWeight):
    coordinates = ("a", "a")


class Elsewhere(OneWeight):
    start = Point(reals=(float("nan"),))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (object(), "object is no space: it has no domain, coordinates"),
        (Unnamed(), r"names 2 coordinates \(1 distinct\), its domain has 1"),
        (Elsewhere(), "its start is not in its domain: real 0 of the point is nan"),
        ([1], "expected a mapping"),
    ],
)
def test_an_object_that_is_no_space_is_refused_in_one_sentence(space: Any, words: str) -> None:
    with pytest.raises(InvalidFile, match=words) as caught:
        built(space)
    assert "\n" not in str(caught.value)


def test_a_described_space_can_be_built_again_from_its_description() -> None:
    for data in (MERGE, STACK):
        space = built(data)
        assert space.description == data and built(space.description) == space


# -- number of recipes ------------------------------------------------------------------------------------------------

COUNTED: dict[str, dict[str, Any]] = {
    "repeats": STACK,
    "on and off, sources": {
        "method": "passthrough",
        "genes": {"source": {"per": "layer"}, "repeat": {"per": "layer", "range": [0, 1]}},
    },
    "sources": {"method": "passthrough", "genes": {"source": {"per": "layer"}}},
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_finite_space_counts_its_recipes(name: str) -> None:
    space = built(COUNTED[name])
    domain = space.domain
    recipes = {
        json.dumps(
            space.decode(Point(integers=values[: len(domain.integers)], categories=values[len(domain.integers) :]))
        )
        for values in itertools.product(*(range(count) for count in domain.integers + domain.categories))
    }
    assert space.recipe_count == len(recipes)


def test_grids_count_and_the_countless_is_none() -> None:
    density = {"method": "ties", "genes": {"density": {"range": [0.5, 0.504]}}, "parameters": {"weight": 1}}
    assert built(density).recipe_count == 5  # 512 to 516 of 1024
    assert built({"method": "linear", "genes": {"weight": {"range": [0.1, 1]}}}).recipe_count == 10_001
    two = {"method": ["ties", "linear"], "genes": {"weight": {"range": [0.1, 1]}, "density": {"range": [0.5, 0.504]}}}
    assert built(two).recipe_count == 5 * 10_001 + 10_001
    assert built({"method": "linear", "genes": {"weight": {"per": ["model", "layer"]}}}).recipe_count is None
    gain = {"method": "passthrough", "genes": {"gain": {}, "repeat": {"per": "layer", "range": [0, 1]}}}
    assert built(gain).recipe_count == (2**3 - 1) * 10_001 + 1


# -- grids of narrow ranges -------------------------------------------------------------------------------------------


def value_of(name: str, low: float, high: float, coordinate: float) -> float:
    other = {"weight": 1} if name == "density" else {"density": 1}
    space = built({"method": "ties", "genes": {name: {"range": [low, high]}}, "parameters": other})
    assert space.domain == Domain(reals=1)
    document = space.decode(Point(reals=(coordinate,)))
    assert space.decode(space.encode(document)) == document
    value = document["models"][0]["parameters"][name]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize(("low", "high"), [(0.0001, 0.0009), (0.1, 0.1005), (0.9995, 0.9999)])
def test_a_density_range_between_two_grid_values_is_divided_itself(low: float, high: float) -> None:
    values = [value_of("density", low, high, coordinate) for coordinate in (0.0, 0.5, 1.0)]
    assert values == pytest.approx([low, (low + high) / 2, high], abs=1e-9)
    assert all(low <= value <= high and value > 0 for value in values)


def test_a_density_range_around_one_grid_value_is_that_value() -> None:
    assert {value_of("density", 0.1, 0.101, coordinate) for coordinate in (0.0, 0.5, 1.0)} == {103 / 1024}


@given(
    name=st.sampled_from(["weight", "density"]),
    low=st.floats(1e-15, 0.999),
    width=st.floats(1e-12, 1.0),
    coordinate=st.floats(0, 1),
)
def test_values_stay_inside_the_range(name: str, low: float, width: float, coordinate: float) -> None:
    high = min(1.0, low + width)
    if high > low:
        value = value_of(name, low, high, coordinate)
        assert low - 1e-9 / 1024 <= value <= high + 1e-9 / 1024 and value > 0
