"""Spaces: points become recipes and back, values snap, mistakes are named."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.optimizers import create, resolve_auto
from evomerge.recipe import parse_recipe
from evomerge.records import Domain, ParentSummary, Point
from evomerge.space import (
    BASELINE_WEIGHTS,
    Space,
    build_space,
    read_space,
    references,
    shipped_spaces,
)
from tests.space.parents import summary

BASE, ONE, TWO = summary("./models/base"), summary("./models/one"), summary("./models/two")


def built(data: Any, base: ParentSummary | None = BASE, models: tuple[ParentSummary, ...] = (ONE, TWO)) -> Space:
    return build_space(data, "space", base, models)


def shipped(name: str) -> Space:
    data, where = read_space(name, Path(), "search.yaml")
    return build_space(data, where, BASE, (ONE,) if "slerp" in name else (ONE, TWO))


INLINE: dict[str, Any] = {
    "method list": {
        "method": ["task_arithmetic", "ties", "linear"],
        "genes": {"weight": {"per": ["model", "layer"], "range": [0.1, 1.7]}, "density": {"range": [0.2, 0.9]}},
    },
    "modules": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "module"], "range": [-0.5, 2]}}},
    "layers and modules": {
        "method": "linear",
        "genes": {"weight": {"per": ["layer", "module", "model"], "range": [0.1, 1]}},
    },
    "one value": {"method": "task_arithmetic", "genes": {"weight": {"range": [0, 1]}}, "dtype": "float32"},
    "curve": {
        "method": "ties",
        "genes": {"weight": {"per": [{"curve": 5}, "model"], "range": [0, 1]}, "density": {"per": "layer"}},
    },
    "fixed": {
        "method": "dare_ties",
        "genes": {"weight": {"per": "model", "range": [0, 1]}},
        "parameters": {"density": 0.5, "lambda": 1.1},
        "evomerge": {"seed": 9},
    },
    "whole stack": {
        "method": "passthrough",
        "genes": {"source": {"per": "layer"}, "repeat": {"per": "layer", "range": [0, 3]}, "gain": {"range": [0.5, 2]}},
    },
    "on and off": {"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [0, 1]}}},
    "gains": {"method": "passthrough", "genes": {"gain": {"per": "layer"}}},
}
SPACES = {**{name: shipped(name) for name in shipped_spaces()}, **{name: built(data) for name, data in INLINE.items()}}


def points(domain: Domain) -> st.SearchStrategy[Point]:
    unit = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-9]), st.floats(0, 1))
    return st.builds(
        Point,
        reals=st.tuples(*[unit] * domain.reals),
        integers=st.tuples(*(st.integers(0, levels - 1) for levels in domain.integers)),
        categories=st.tuples(*(st.integers(0, options - 1) for options in domain.categories)),
    )


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_decoding_what_was_encoded_is_exact(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    point = data.draw(points(space.domain))
    document = space.decode(point)
    assert space.decode(point) == document
    again = space.encode(json.loads(json.dumps(document)))
    assert space.decode(again) == document
    assert again.integers == point.integers or "source" in name or 0 in point.integers
    recipe = parse_recipe(document)
    assert recipe.fingerprint == parse_recipe(space.decode(again)).fingerprint


@pytest.mark.parametrize("name", SPACES)
def test_the_start_is_a_point_and_a_recipe(name: str) -> None:
    space = SPACES[name]
    document = space.decode(space.start)
    parse_recipe(document)
    assert space.decode(space.encode(document)) == document
    optimizer = create("auto", space.domain, objectives=1, seed=0, start=space.start, options={})
    assert len(optimizer.ask().point.reals) == space.domain.reals
    assert optimizer.name == resolve_auto(space.domain, 1)


# -- axes -------------------------------------------------------------------------------------------------------------

SIZES = {
    "layerwise_task_arithmetic": 2 * 5,
    "global_task_arithmetic": 2,
    "curve_task_arithmetic": 2 * 3,
    "layerwise_dare_ties": 2 * 2 * 5,
    "layerwise_ties": 2 * 5 + 2,
    "layerwise_slerp": 4 * 3 + 1,
    "block_stack": 3 * 4,
    "modules": 2 * 3,
    "layers and modules": 2 * (4 * 3 + 1),
    "one value": 1,
    "on and off": 4,
    "method list": 2 * 5 + 1 + 1,
}


@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_coordinates(name: str) -> None:
    assert SPACES[name].domain.size == SIZES[name]


def test_each_coordinate_moves_its_own_tensors() -> None:
    from evomerge.recipe import value_at

    space = SPACES["layers and modules"]
    tensors = {
        "layer 2 attention": "model.layers.2.self_attn.q_proj.weight",
        "layer 2 mlp": "model.layers.2.mlp.up_proj.weight",
        "layer 2 rest": "model.layers.2.input_layernorm.weight",
        "embeddings and head": "lm_head.weight",
    }
    start = space.decode(space.start)
    for words in tensors:
        index = space.coordinates.index(f"weight ./models/two {words}")
        reals = list(space.start.reals)
        reals[index] = 1.0
        changed = space.decode(Point(reals=tuple(reals)))
        for other, name in tensors.items():
            before, after = (value_at(doc["models"][1]["parameters"]["weight"], name, 0.0) for doc in (start, changed))
            assert (before != after) == (other == words), (words, other)
        assert changed["models"][0] == start["models"][0]


def test_a_curve_has_its_knots_over_the_depth() -> None:
    document = SPACES["curve"].decode(Point(reals=(*(0.0, 0.25, 0.5, 0.75, 1.0), *(1.0,) * 5, *(0.5,) * 5)))
    assert document["models"][0]["parameters"]["weight"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert document["models"][1]["parameters"]["weight"] == [1.0] * 5


def test_a_method_is_a_choice_and_gets_its_own_parameters_only() -> None:
    space = SPACES["method list"]
    documents = [space.decode(Point(reals=(0.5,) * 11, categories=(choice,))) for choice in range(3)]
    assert [document["merge_method"] for document in documents] == ["task_arithmetic", "ties", "linear"]
    assert "density" in str(documents[1]) and "density" not in str(documents[2])
    for document in documents:
        parse_recipe(document)


def test_values_snap_so_that_neighbors_are_one_recipe() -> None:
    space = SPACES["fixed"]
    near = [space.decode(Point(reals=(0.5 + shift, 0.25))) for shift in (-1e-5, 0.0, 1e-5, 1e-3)]
    assert near[0] == near[1] == near[2] != near[3]
    dense = SPACES["layerwise_ties"]
    densities = {
        model["parameters"]["density"] * 1024
        for u in (0.0, 0.1, 1 / 3, 0.9999, 1.0)
        for model in dense.decode(Point(reals=(0.5,) * 10 + (u,) * 2))["models"]
    }
    assert all(value == int(value) and 0.1 * 1024 <= value <= 1024 for value in densities)


def test_a_stack_in_its_own_words() -> None:
    space = SPACES["whole stack"]
    point = Point(reals=(0.0,), integers=(1, 0, 3, 1), categories=(0, 1, 2, 2))
    document = space.decode(point)
    blocks = [
        (source["model"], layer)
        for part in document["slices"]
        for source in part["sources"]
        for layer in range(*source["layer_range"])
    ]
    assert blocks == [("./models/base", 0), *[("./models/two", 2)] * 3, ("./models/two", 3)]
    assert document["evomerge"]["gains"] == [0.5] * 5
    assert space.start == Point(reals=(pytest.approx(1 / 3),), integers=(1,) * 4, categories=(0,) * 4)
    assert [part["sources"][0]["layer_range"] for part in (document["slices"][0], document["slices"][-1])] == [
        [0, 0]
    ] * 2


# -- recipes from elsewhere -------------------------------------------------------------------------------------------


def merge(**changes: Any) -> dict[str, Any]:
    models = [{"model": model.name, "parameters": {"weight": 0.5}} for model in (ONE, TWO)]
    return {"merge_method": "task_arithmetic", "base_model": BASE.name, "models": models, **changes}


def weights(first: Any, second: Any = 0.5) -> list[dict[str, Any]]:
    return [{"model": m.name, "parameters": {"weight": w}} for m, w in ((ONE, first), (TWO, second))]


def test_hand_written_recipes_that_the_space_can_say() -> None:
    space = SPACES["layerwise_task_arithmetic"]
    point = space.encode(merge())
    assert point.reals == pytest.approx((0.5 / 1.5,) * 10)
    parameters = {"parameters": {"weight": 0.75}, "models": [{"model": ONE.name}, {"model": TWO.name}]}
    assert set(space.encode(merge(**parameters)).reals) == {0.5}
    listed = [{"model": BASE.name}, *weights(0.5)]
    assert space.encode(merge(models=listed)) == point, "a base that is listed among the models is still the base"
    layered = weights([{"filter": "model.layers.1.", "value": 1.5}, {"value": 0}])
    assert space.encode(merge(models=layered)).reals[:5] == (0, 1, 0, 0, 0)
    assert SPACES["curve"].encode(merge(merge_method="ties", parameters={"density": 0.5})).reals[:5] == (0.5,) * 5


def test_a_curve_is_a_point_of_a_layer_wise_space() -> None:
    """Embeddings, norm and head lie at the beginning of a gradient, as in mergekit."""
    point = SPACES["layerwise_task_arithmetic"].encode(merge(models=weights([0.0, 1.5])))
    assert point.reals[:5] == pytest.approx((0, 1 / 3, 2 / 3, 1, 0))
    filtered = weights([{"filter": "model.layers.0.", "value": [0, 1]}, {"value": 1.5}])
    assert SPACES["layerwise_task_arithmetic"].encode(merge(models=filtered)).reals[:5] == (0, 1, 1, 1, 1)


OTHER = {
    "another method": merge(merge_method="linear"),
    "another base": merge(base_model=TWO.name),
    "no base": {k: v for k, v in merge().items() if k != "base_model"},
    "another model": merge(models=[*weights(0.5), {"model": "./models/three", "parameters": {"weight": 1}}]),
    "a model less": merge(models=weights(0.5)[:1]),
    "slices": {"merge_method": "task_arithmetic", "base_model": BASE.name, "slices": []},
    "out of range": merge(models=weights(1.6)),
    "below the range": merge(models=weights([{"filter": "model.layers.0.", "value": -0.1}, {"value": 1}])),
    "another division": merge(models=weights([{"filter": "mlp", "value": 0.1}, {"value": 0.9}])),
    "a gap": merge(models=weights([{"filter": "model.layers.0.", "value": 0.1}])),
    "no value": merge(models=[{"model": ONE.name}, {"model": TWO.name}]),
    "normalized": merge(parameters={"normalize": True}),
    "another method for some tensors": merge(evomerge={"methods": [{"filter": "mlp", "method": "linear"}]}),
    "another tokenizer": merge(tokenizer_source="union"),
    "gains": merge(evomerge={"gains": [0.5] * 4}),
}


@pytest.mark.parametrize("name", OTHER)
def test_recipes_outside_a_space_are_no_points_of_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        SPACES["layerwise_task_arithmetic"].encode(OTHER[name])


def stack(*blocks: tuple[str, int], base: str = BASE.name, ends: str = BASE.name, **changes: Any) -> dict[str, Any]:
    edges = {"sources": [{"model": ends, "layer_range": [0, 0]}]}
    slices = [{"sources": [{"model": model, "layer_range": [layer, layer + 1]}]} for model, layer in blocks]
    return {"merge_method": "passthrough", "base_model": base, "slices": [edges, *slices, edges], **changes}


PLAIN = [(BASE.name, layer) for layer in range(4)]
STACKS: dict[str, dict[str, Any]] = {
    "a merge": merge(),
    "another head": stack(*PLAIN, ends=ONE.name),
    "another config": stack(*PLAIN, base=ONE.name),
    "out of order": stack(*PLAIN[::-1]),
    "another model": stack(*PLAIN[:3], ("./models/three", 3)),
    "two models at a depth": stack(*PLAIN, (ONE.name, 3)),
    "too often": stack(*PLAIN, *PLAIN[-1:] * 3),
    "a layer too many": stack(*PLAIN, (BASE.name, 4)),
    "different gains": stack(*PLAIN, evomerge={"gains": [1, 1, 1, 0.5]}),
    "too strong": stack(*PLAIN, evomerge={"gains": [3, 3, 3, 3]}),
    "too few gains": stack(*PLAIN, evomerge={"gains": [1, 1]}),
    "scaled": stack(*PLAIN, parameters={"scale": 0.5}),
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks_outside_a_space_are_no_points_of_it(name: str) -> None:
    space = SPACES["whole stack"]
    assert space.encode(stack(*PLAIN)) == Point(reals=(pytest.approx(1 / 3),), integers=(1,) * 4, categories=(0,) * 4)
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        space.encode(STACKS[name])


def test_a_block_left_out_is_a_point_only_where_blocks_may_be_left_out() -> None:
    assert SPACES["on and off"].encode(stack(*PLAIN[:2], PLAIN[3])).integers == (1, 1, 0, 1)
    with pytest.raises(ValueError, match="repeated"):
        SPACES["gains"].encode(stack(*PLAIN[:2], PLAIN[3]))


# -- problems ---------------------------------------------------------------------------------------------------------


def gene(**entry: Any) -> dict[str, Any]:
    return {"method": "ties", "genes": {"weight": {"per": ["model"], "range": [0, 1]}, "density": entry}}


PROBLEMS: dict[str, tuple[Any, str]] = {
    "no mapping": ([1], "expected a mapping"),
    "no method": ({"genes": {}}, "method: is required but missing"),
    "method": ({"method": "tyes", "genes": {}}, 'Did you mean "ties"?'),
    "key": ({**gene(), "paramters": {}}, 'Did you mean "parameters"?'),
    "no genes": ({"method": "linear", "parameters": {"weight": 1}}, "varies at least one parameter"),
    "unknown gene": (
        {"method": "ties", "genes": {"weight": {"range": [0, 1]}, "densty": {}}},
        'Did you mean "density"?',
    ),
    "gene key": (gene(rnage=[0.1, 1]), 'Did you mean "range"?'),
    "axis": (gene(per=["mode"]), 'Did you mean "model"?'),
    "axis twice": (gene(per=["model", "model"]), "an axis twice"),
    "curve and layer": (gene(per=[{"curve": 3}, "layer"]), "both divide the depth"),
    "module and groups": (gene(per=["module", {"groups": ["q_proj"]}]), "both divide a block"),
    "one knot": (gene(per={"curve": 1}), "K at least 2"),
    "range at 0": (gene(range=[0, 1]), "starts at 0, expected a value above 0"),
    "range backwards": (gene(range=[1, 0.1]), "expected [low, high] with low < high"),
    "range too wide": (gene(range=[0.1, 2]), "expected values from 0 to 1"),
    "start outside": (gene(range=[0.1, 0.5], start=0.7), "expected a value inside [0.1, 0.5]"),
    "flag": (
        {"method": "ties", "genes": {"weight": {"range": [0, 1]}, "normalize": {"range": [0, 1]}}},
        "true or false",
    ),
    "per model": ({"method": "slerp", "genes": {"t": {"per": ["model"]}}}, "merges two models"),
    "missing": ({"method": "linear", "genes": {}, "parameters": {}}, "weight has neither a gene nor a fixed value"),
    "stack gene": ({"method": "passthrough", "genes": {"repeet": {"per": "layer"}}}, 'Did you mean "repeat"?'),
    "stack axis": ({"method": "passthrough", "genes": {"source": {"per": "model"}}}, "expected layer"),
    "stack range": ({"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [1, 2]}}}, "whole numbers"),
    "stack gain": ({"method": "passthrough", "genes": {"gain": {"range": [0, 1]}}}, "expected 0 < low < high"),
    "stack parameter": ({**INLINE["gains"], "parameters": {"scale": 2}}, "no fixed parameters"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    data, sentence = PROBLEMS[name]
    with pytest.raises(InvalidFile) as caught:
        built(data)
    problems = [str(problem) for problem in caught.value.problems]
    assert any(sentence in problem for problem in problems), problems
    assert all(problem.startswith("space") and "\n" not in problem for problem in problems)


def test_all_mistakes_come_at_once() -> None:
    data = {"method": "ties", "genes": {"weight": {"range": [2, 1]}, "density": {"range": [0, 1]}, "lamda": {}}, "x": 1}
    with pytest.raises(InvalidFile) as caught:
        built(data)
    assert len(caught.value.problems) == 4


def test_a_method_that_needs_a_base_or_two_models() -> None:
    linear = {"method": "task_arithmetic", "genes": {"weight": {"range": [0, 1]}}}
    with pytest.raises(InvalidFile, match=r"needs parents\.base"):
        built(linear, base=None)
    slerp = {"method": "slerp", "genes": {"t": {"range": [0, 1]}}}
    pair = built(slerp, base=None)
    assert pair.decode(pair.start)["base_model"] == ONE.name
    assert [entry["model"] for entry in pair.decode(pair.start)["models"]] == [TWO.name]
    with pytest.raises(InvalidFile, match="merges two models, found 3 parents"):
        built(slerp)


def test_where_spaces_are_found(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("method: linear\ngenes: {weight: {range: [0.1, 1]}}\n")
    assert read_space("mine.yaml", tmp_path, "search.yaml")[0]["method"] == "linear"
    assert read_space("layerwise_ties", tmp_path, "search.yaml")[0]["method"] == "ties"
    assert read_space({"method": "ties"}, tmp_path, "search.yaml") == ({"method": "ties"}, "search.yaml: space")
    with pytest.raises(InvalidInput, match='Did you mean "layerwise_ties"'):
        read_space("layerwise_tise", tmp_path, "search.yaml")
    with pytest.raises(InvalidInput, match="no such file"):
        read_space("other.yaml", tmp_path, "search.yaml")


# -- references -------------------------------------------------------------------------------------------------------


def test_references_are_each_parent_uniform_and_a_small_grid() -> None:
    found = references("b", ["x", "y"], "bfloat16")
    assert [reference.name for reference in found if reference.kind == "parent"] == ["b", "x", "y"]
    simple = [reference for reference in found if reference.kind == "simple"]
    assert [reference.name for reference in simple] == [
        "uniform average",
        *(f"task arithmetic {weight:g}" for weight in BASELINE_WEIGHTS),
    ]
    assert len(BASELINE_WEIGHTS) >= 3
    for reference in found:
        recipe = parse_recipe(reference.document)
        assert recipe.dtype == "bfloat16"
    methods = {reference.document["merge_method"] for reference in references(None, ["x", "y"])}
    assert methods == {"passthrough", "linear"}
    assert [reference.kind for reference in references(None, ["x"])] == ["parent"]
