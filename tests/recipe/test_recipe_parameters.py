"""Which value a parameter has for one tensor: filters, gradients and levels."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.recipe import lookup, read_setting, value_at

UP, Q = "model.layers.3.mlp.up_proj.weight", "model.layers.3.self_attn.q_proj.weight"


def test_a_filter_is_part_of_the_name_and_the_first_that_matches_wins() -> None:
    setting = [{"filter": "mlp", "value": 0.1}, {"filter": "up_proj", "value": 0.2}, {"filter": "q_proj", "value": 0.3}]
    assert value_at(setting, UP, 0.5) == 0.1
    assert value_at(setting, Q, 0.5) == 0.3
    assert value_at(setting, "model.norm.weight", 0.5) is None
    for rest in ({"value": 0.9}, {"filter": "*", "value": 0.9}):
        assert value_at([*setting, rest], "model.norm.weight", 0.5) == 0.9
        assert value_at([rest, *setting], UP, 0.5) == 0.9
    assert value_at({"filter": "m.p", "value": 1}, UP, 0.0) is None, "no pattern language"


@pytest.mark.parametrize(
    ("values", "layers", "expected"),
    [
        ([0.0, 1.0], 5, [0, 0.25, 0.5, 0.75, 1]),
        ([0, 0.5, 0.3], 5, [0, 0.25, 0.5, 0.4, 0.3]),
        ([0.7], 3, [0.7, 0.7, 0.7]),
        ([0.2, 0.8], 1, [0.8]),  # a slice of one layer is at its end
        ([True, False], 3, [True, True, False]),
        ([1, 2, 3, 4], 4, [1, 2, 3, 4]),
    ],
)
def test_a_gradient_over_a_slice(values: list[Any], layers: int, expected: list[Any]) -> None:
    depths = [1.0 if layers == 1 else layer / (layers - 1) for layer in range(layers)]
    found = [value_at(values, UP, t) for t in depths]
    assert found == pytest.approx(expected)
    assert [type(value) for value in found if isinstance(value, bool)] == [
        type(v) for v in expected if v is True or v is False
    ]


@settings(max_examples=30)
@given(st.integers(2, 120), st.data())
def test_a_list_with_a_value_for_each_layer_gives_each_its_own(layers: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(-2, 2), min_size=layers, max_size=layers))
    flags = [value > 0 for value in values]
    for layer in range(layers):
        t = layer / (layers - 1)
        assert value_at(values, UP, t) == values[layer]
        assert value_at(flags, UP, t) is flags[layer]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.floats(0, 1))
def test_a_gradient_stays_between_its_anchors(values: list[float], t: float) -> None:
    assert min(values) - 1e-9 <= value_at(values, UP, t) <= max(values) + 1e-9


def test_a_gradient_inside_a_filter() -> None:
    setting = [{"filter": "mlp", "value": [0, 1]}, {"value": [1, 0]}]
    assert value_at(setting, UP, 0.25) == pytest.approx(0.25)
    assert value_at(setting, Q, 0.25) == pytest.approx(0.75)


def test_the_first_level_with_a_value_wins() -> None:
    source = {"weight": [{"filter": "mlp", "value": 1}]}
    levels = [source, {"weight": 2, "density": 5}, {"weight": 3, "density": 6, "lambda": 7}]
    assert lookup(levels, "weight", UP, 0.0) == 1
    assert lookup(levels, "weight", Q, 0.0) == 2, "no filter matches, so the next level speaks"
    assert lookup(levels, "density", UP, 0.0) == 5
    assert lookup(levels, "lambda", UP, 0.0) == 7
    assert lookup(levels, "gamma", UP, 0.0) is None
    assert lookup([{"weight": 0.0}, {"weight": 3}], "weight", UP, 0.0) == 0.0, "nought is a value"
    assert lookup([{"normalize": False}, {"normalize": True}], "normalize", UP, 0.0) is False


def test_settings_are_read_in_all_forms() -> None:
    assert read_setting("1e-3") == 0.001
    assert read_setting([0, 1, "2.5"]) == [0, 1, 2.5]
    assert read_setting({"filter": None, "value": 1}) == {"value": 1}
    assert read_setting([{"filter": "a", "value": [1, 2]}]) == [{"filter": "a", "value": [1, 2]}]
    for bad in (
        "x",
        None,
        [],
        [[]],
        [1, "x"],
        {"value": None},
        {"filter": "a"},
        [{"value": 1, "x": 2}],
        [{"value": 1}, 3],
    ):
        with pytest.raises(ValueError, match="found"):
            read_setting(bad)
