"""The language of spaces of merges: whatever a file says, points are valid recipes and come back exactly."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomerge import methods
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.recipe import parse_recipe, value_at
from evomerge.records import ParentSummary, Point, TensorPlace
from evomerge.space import MergeSpace, build_space
from tests.space.parents import summary

LAYERS = 4
SUFFIXES = (
    *(f"self_attn.{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
)
PLACES = (
    TensorPlace("model.embed_tokens.weight", -1, 0.0, "text_decoder"),
    *(
        TensorPlace(f"model.layers.{layer}.{suffix}", layer, layer / (LAYERS - 1), "text_decoder")
        for layer in range(LAYERS)
        for suffix in SUFFIXES
    ),
    TensorPlace("model.norm.weight", -1, 0.0, "text_decoder"),
    TensorPlace("lm_head.weight", -1, 0.0, "text_decoder"),
)
VISION = tuple(
    TensorPlace(f"vision_tower.layers.{layer}.{suffix}", -1, float(layer), "vision_tower")
    for layer in range(2)
    for suffix in SUFFIXES
)


BASE, ONE, TWO, THREE = (summary(name, LAYERS, PLACES) for name in ("base", "one", "two", "three"))
MODELS = (ONE, TWO, THREE)


def built(data: Any, base: ParentSummary | None = BASE, models: tuple[ParentSummary, ...] = MODELS) -> MergeSpace:
    space = build_space(data, "space", base, models)
    assert isinstance(space, MergeSpace)
    return space


def value(recipe: dict[str, Any], model: int, tensor: str, name: str = "weight") -> Any:
    """Return a recipe's value of a model's parameter in a tensor."""
    depth = next(place.depth for place in PLACES if place.name == tensor)
    return value_at(recipe["models"][model]["parameters"][name], tensor, depth)


def moved(space: MergeSpace, coordinate: str, to: float = 1.0) -> dict[str, Any]:
    """Return the recipe of the start with one real coordinate moved."""
    reals = list(space.start.reals)
    reals[space.coordinates.index(coordinate)] = to
    return space.decode(Point(reals=tuple(reals), integers=space.start.integers, categories=space.start.categories))


# -- random files -----------------------------------------------------------------------------------------------------

WORDS = {
    "depth": st.sampled_from(["layer", {"bands": 2}, {"bands": 3}, {"curve": 2}, {"curve": 3}, None, None]),
    "inside": st.sampled_from(
        [
            "module",
            {"groups": ["q_proj", "mlp."]},
            {"groups": {"queries and keys": ["q_proj", "k_proj"], "outside": ["embed_tokens", "lm_head"]}},
            {"groups": ["self_attn", "mlp.", "norm", "embed", "lm_head"]},
            None,
            None,
        ]
    ),
}
METHODS = ["task_arithmetic", "linear", "ties", "dare_ties", "della", "breadcrumbs", "sce", "karcher", "model_stock"]


@st.composite
def gene_entries(draw: st.DrawFn, parameter: methods.Parameter) -> dict[str, Any]:
    depth, inside = draw(WORDS["depth"]), draw(WORDS["inside"])
    per = [axis for axis in (depth, inside) if axis is not None]
    by_model = parameter.per != "merge" and draw(st.booleans())
    per = draw(st.permutations([*per, *(["model"] if by_model else [])]))
    without_curve = [axis for axis in per if not (isinstance(axis, dict) and "curve" in axis)]
    if parameter.kind == "flag":
        return {"per": without_curve}
    if parameter.kind == "integer":
        return {"per": without_curve, "range": [1, 5]}
    low, high = parameter.gene or (max(parameter.low, 0.0), min(parameter.high, 1.0))
    low = max(low, 0.01) if parameter.positive or draw(st.booleans()) else low
    kind = draw(st.sampled_from(["range", "log", "values", "total"]))
    if kind == "values":
        return {"per": without_curve, "values": [low, (low + high) / 2, high]}
    if kind == "log" and low > 0:
        return {"per": per, "range": [low, high], "scale": "log"}
    if kind == "total" and by_model:
        return {"per": per, "range": [low, high], "total": [None, low * 3 + (high - low) * draw(st.floats(0.1, 2.5))]}
    return {"per": per, "range": [low, high]}


@st.composite
def spaces(draw: st.DrawFn) -> MergeSpace:
    names = draw(st.lists(st.sampled_from(METHODS), min_size=1, max_size=3, unique=True))
    known = {p.name: p for name in names for p in methods.get(name).parameters}
    genes: dict[str, Any] = {}
    for parameter in known.values():
        if parameter.name != "epsilon" and (parameter.default is None or draw(st.booleans())):
            genes[parameter.name] = draw(gene_entries(parameter))
    for variant in {v.name: v for name in names for v in methods.get(name).variants}.values():
        if draw(st.booleans()):
            genes[variant.name] = {}
    data: dict[str, Any] = {"method": names[0] if len(names) == 1 else names, "genes": genes}
    per = [axis for axis in (draw(WORDS["inside"]), draw(WORDS["depth"])) if axis and "curve" not in axis]
    if len(names) > 1 and per and draw(st.booleans()):
        data["method"] = {"choose": names, "per": per}
    if draw(st.booleans()) or not genes:
        data["parents"] = {"least": 2, "most": draw(st.sampled_from([2, 3])), "indicator": "choice"}
        data["parents"] |= {"indicator": "real"} if draw(st.booleans()) else {}
        if data["parents"]["most"] == 3 and data["parents"]["least"] == 3:
            del data["parents"]
    return built(data)


@st.composite
def points(draw: st.DrawFn, space: MergeSpace) -> Point:
    domain = space.domain
    corner = draw(st.sampled_from([0.0, 1.0, None]))
    seed = draw(st.randoms(use_true_random=False))
    return Point(
        reals=tuple(seed.choice([0.0, 1.0, seed.random()]) if corner is None else corner for _ in range(domain.reals)),
        integers=tuple(seed.randrange(n) if corner is None else int(corner * (n - 1)) for n in domain.integers),
        categories=tuple(seed.randrange(n) if corner is None else int(corner * (n - 1)) for n in domain.categories),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_points_of_any_space_are_valid_recipes_and_come_back_exactly(data: st.DataObject) -> None:
    space = data.draw(spaces())
    point = data.draw(points(space))
    document = space.decode(point)
    recipe = parse_recipe(document)
    assert parse_recipe(json.loads(json.dumps(document))).fingerprint == recipe.fingerprint
    snapped = space.encode(json.loads(json.dumps(document)))
    assert space.decode(snapped) == document
    assert space.encode(space.decode(snapped)) == snapped
    names = list(space.coordinates)
    assert len(names) == len(set(names)) == space.domain.size


# -- axes and scales --------------------------------------------------------------------------------------------------


def space_of(**weight: Any) -> MergeSpace:
    return built({"method": "task_arithmetic", "genes": {"weight": {"range": [0, 1.5], **weight}}})


def test_groups_of_filters_share_values_in_each_block() -> None:
    space = space_of(per=["layer", {"groups": {"qk": ["q_proj", "k_proj"], "ends": ["embed_tokens", "lm_head"]}}])
    assert space.domain.reals == LAYERS * 2 + 2
    changed, start = moved(space, "weight layer 2 qk"), space.decode(space.start)
    for place in PLACES:
        expected = place.layer == 2 and ("q_proj" in place.name or "k_proj" in place.name)
        assert (value(changed, 0, place.name) != value(start, 0, place.name)) == expected, place
    ends = moved(space, "weight embeddings and head ends")
    assert [place.name for place in PLACES if value(ends, 0, place.name) == 1.5] == [PLACES[0].name, PLACES[-1].name]


def test_bands_are_runs_of_blocks() -> None:
    space = space_of(per=[{"bands": 3}, "model"])
    labels = ["layer 0", "layer 1", "layers 2 to 3", "embeddings and head"]
    assert list(space.coordinates) == [
        f"weight {model} {label}" for model in ("one", "two", "three") for label in labels
    ]
    changed = moved(space, "weight two layers 2 to 3")
    assert {place.layer for place in PLACES if value(changed, 1, place.name) == 1.5} == {2, 3}


def test_curves_of_modules() -> None:
    space = space_of(per=["module", {"curve": 2}])
    changed = moved(space, "weight mlp knot 2 of 2", 1.0)
    start = value(changed, 0, "lm_head.weight")
    found = [value(changed, 0, f"model.layers.{layer}.mlp.up_proj.weight") for layer in range(LAYERS)]
    assert found == pytest.approx([start + (1.5 - start) * layer / 3 for layer in range(LAYERS)])
    assert value(changed, 0, "model.layers.3.self_attn.q_proj.weight") == start


def test_a_logarithmic_scale_takes_equal_factors() -> None:
    space = space_of(range=[0.01, 1], scale="log")
    found = [space.decode(Point(reals=(u,)))["models"][0]["parameters"]["weight"] for u in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx([0.01, 10**-1.5, 0.1, 10**-0.5, 1])
    assert space.decode(space.start)["models"][0]["parameters"]["weight"] == pytest.approx(1 / 3, rel=3e-4)
    assert space.straightened((0.5,)) == (pytest.approx(0.09 / 0.99),)


def test_lists_flags_whole_numbers_and_variants() -> None:
    space = built(
        {
            "method": ["karcher", "ties"],
            "genes": {
                "max_iter": {"range": [3, 6]},
                "weight": {"per": "model", "values": [0, 0.5, 1]},
                "normalize": {},
                "sign_election": {},
            },
            "parameters": {"density": 0.5},
        }
    )
    assert (space.domain.reals, space.domain.integers, space.domain.categories) == (0, (4, 3, 3, 3), (2, 2, 2))
    document = space.decode(Point(integers=(2, 0, 2, 1), categories=(1, 0, 1)))
    assert [entry["parameters"]["weight"] for entry in document["models"]] == [0.0, 1.0, 0.5]
    assert document["parameters"] == {"density": 0.5, "normalize": False}
    assert document["evomerge"] == {"variants": {"sign_election": "unweighted"}}
    other = space.decode(Point(integers=(2, 0, 2, 1), categories=(0, 0, 1)))
    assert other["parameters"] == {"max_iter": 5} and "evomerge" not in other
    assert space.recipe_count == 4 + 3**3 * 2 * 2


def test_totals_are_kept_in_every_group() -> None:
    space = space_of(per=["model", "layer"], total=[0.5, 1.0])
    for reals, total in (((1.0,) * 15, 1.0), ((0.0,) * 15, 0.5), ((0.5, *(0.0,) * 14), 0.75)):
        recipe = space.decode(Point(reals=reals))
        found = [sum(value(recipe, model, "model.layers.0.mlp.up_proj.weight") for model in range(3))]
        assert found == pytest.approx([total], abs=1e-3)
    assert space_of(per="model", total=1).decode(Point(reals=(1, 1, 0)))["models"][2]["parameters"]["weight"] == 0
    with pytest.raises(InvalidInput, match=r"total of weight is 1\.5"):
        space.encode(space_of(per="model").decode(Point(reals=(1, 0, 0))))


# -- methods and parents ----------------------------------------------------------------------------------------------


def test_each_group_has_its_own_method_and_only_its_parameters() -> None:
    space = built(
        {
            "method": {"choose": ["task_arithmetic", "ties"], "per": "module"},
            "genes": {"weight": {"range": [0, 1]}, "density": {"per": "module", "range": [0.1, 1]}},
        }
    )
    assert list(space.coordinates)[-3:] == ["method attention", "method mlp", "method rest"]
    point = Point(reals=(0.5, 0.2, 0.4, 0.6), categories=(1, 0, 0))
    recipe = space.decode(point)
    assert recipe["merge_method"] == "task_arithmetic"
    assert [rule["method"] for rule in recipe["evomerge"]["methods"]] == ["ties", "task_arithmetic"]
    assert len(recipe["models"][0]["parameters"]["density"]) == 1, "densities of task arithmetic mean nothing"
    same = space.decode(Point(reals=(0.5, 0.2, 0.9, 0.9), categories=(1, 0, 0)))
    assert same == recipe
    plain = space.decode(Point(reals=point.reals, categories=(1, 1, 1)))
    assert plain["merge_method"] == "ties" and "evomerge" not in plain


def parents_space(**parents: Any) -> MergeSpace:
    return built(
        {"method": "task_arithmetic", "parents": parents, "genes": {"weight": {"per": "model", "range": [0, 2]}}}
    )


def taken(space: MergeSpace, on: tuple[int, ...], weights: tuple[float, ...] = (0.1, 0.3, 0.2)) -> list[str]:
    point = Point(reals=weights, categories=on)
    if space.domain.reals > 3:
        point = Point(reals=(*weights, *(0.9 if switch else 0.1 for switch in on)))
    return [entry["model"] for entry in space.decode(point)["models"]]


def test_parents_take_part_or_not_and_no_more_than_the_cap() -> None:
    space = parents_space(most=2)
    assert taken(space, (1, 0, 1)) == ["one", "three"]
    assert taken(space, (1, 1, 1)) == ["two", "three"], "the two with the greatest weights"
    assert taken(space, (0, 0, 0)) == ["base"]
    assert taken(parents_space(most=2, least=1), (0, 0, 0)) == ["two"]
    assert taken(parents_space(most=2, indicator="real"), (1, 0, 1)) == ["one", "three"]
    assert space.decode(space.start)["models"][1]["model"] == "two" and len(space.decode(space.start)["models"]) == 2
    with pytest.raises(InvalidInput, match="has 3 models, this space 0 to 2"):
        space.encode(space_of(per="model").decode(Point(reals=(0.5,) * 3)))


def test_methods_without_parameters_have_parents_to_search() -> None:
    space = built({"method": "model_stock", "parents": {"least": 2}})
    assert space.recipe_count == 4 and space.domain.categories == (2, 2, 2)
    slerp = built({"method": "slerp", "parents": {"most": 1}, "genes": {"t": {}}})
    assert [entry["model"] for entry in slerp.decode(slerp.start)["models"]] == ["one"]


# -- parts ------------------------------------------------------------------------------------------------------------


def test_vision_language_models_are_merged_by_part() -> None:
    base, *models = (summary(name, LAYERS, (*PLACES, *VISION)) for name in ("base", "one", "two"))
    weight = {"range": [0, 1.5]}
    data = {
        "method": "task_arithmetic",
        "modules": {
            "text_decoder": {"genes": {"weight": {"per": ["model", "layer"], **weight}}},
            "vision_tower": {"genes": {"weight": {"per": [{"groups": ["self_attn"]}], **weight}}},
        },
    }
    space = built(data, base, tuple(models))
    assert space.domain.reals == 2 * (LAYERS + 1) + 2
    assert space.coordinates[-1] == "weight rest (vision_tower)"
    recipe = space.decode(Point(reals=(0.5,) * 10 + (0.0, 1.0)))
    assert recipe["modules"]["vision_tower"]["models"][0]["parameters"]["weight"][1] == {"value": 1.5}
    assert space.decode(space.encode(recipe)) == recipe
    assert len(parse_recipe(recipe).modules) == 2
    whole = space_of(per="model").decode(Point(reals=(0.5,) * 3))
    whole["models"] = whole["models"][:2]
    assert set(space.encode(whole).reals) == {0.5}, "a merge of whole models is one of all parts"
    text = built({**data, "modules": {"text_decoder": data["modules"]["text_decoder"]}}, base, tuple(models))  # type: ignore[index]
    with pytest.raises(InvalidInput, match="does not merge just the parts"):
        text.encode(whole)


# -- mistakes ---------------------------------------------------------------------------------------------------------


def with_weight(method: Any = "task_arithmetic", **entry: Any) -> dict[str, Any]:
    return {"method": method, "genes": {"weight": {"range": [0.1, 1], **entry}}}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "filter": (with_weight(per={"groups": ["q_prj"]}), 'no tensor has "q_prj" in its name. Did you mean "q_proj"'),
    "filter taken": (with_weight(per={"groups": ["proj", "q_proj"]}), "earlier groups have all of them"),
    "no filter": (with_weight(per={"groups": []}), "expected a list of parts of tensor names"),
    "bands and curve": (with_weight(per=[{"bands": 2}, {"curve": 3}]), "bands and curve both divide the depth"),
    "log from 0": (with_weight(range=[0, 1], scale="log"), "expected a value above 0 for scale: log"),
    "scale": (with_weight(scale="lgo"), "'linear' or 'log'"),
    "values and range": (with_weight(values=[0, 1]), "stands beside range"),
    "one value": ({"method": "ties", "genes": {"weight": {"values": [0.5]}}}, "at least two values"),
    "values descend": ({"method": "ties", "genes": {"weight": {"values": [1, 0.5]}}}, "expected ascending numbers"),
    "a word": ({"method": "ties", "genes": {"weight": {"values": ["a", 0.5]}}}, "found a, expected numbers"),
    "total without models": (with_weight(total=1), "per has no model"),
    "total too large": (with_weight(per="model", total=[4, 5]), "the totals of 3 models go from 0.3 to 3"),
    "fraction": ({"method": "karcher", "genes": {"max_iter": {"range": [1, 2.5]}}}, "expected whole numbers"),
    "variant": ({**with_weight("ties"), "genes": {"sign_elektion": {}}}, 'Did you mean "sign_election"'),
    "option": (
        {**with_weight("ties"), "genes": {"sign_election": {"values": ["weighted", "paper"]}}},
        "found paper, expected some of weighted, unweighted",
    ),
    "variant per layer": (
        {**with_weight("ties"), "genes": {"sign_election": {"per": "layer"}}},
        "one choice for the whole merge",
    ),
    "method twice": (with_weight(["ties", "ties"]), "a method twice"),
    "method per model": (with_weight({"choose": ["ties", "linear"], "per": "model"}), "expected layer, bands"),
    "method key": (with_weight({"chose": ["ties", "linear"]}), "expected choose: a list"),
    "epsilon": (
        {"method": ["della", "ram"], "genes": {"weight": {}, "epsilon": {"range": [0.01, 0.1]}}},
        "epsilon is another thing in ram than in della",
    ),
    "most": ({**with_weight(), "parents": {"least": 2, "most": 1}}, "at least 2 and at most 1 of 3 models"),
    "too few": ({**with_weight(), "parents": {"least": 4}}, "at least 4 and at most 3 of 3 models"),
    "least": ({"method": "model_stock", "parents": {"least": 1}}, "need at least 2"),
    "nothing to choose": ({**with_weight(), "parents": {"least": 3}}, "all 3 models always take part"),
    "slerp": ({"method": "slerp", "genes": {"t": {}}}, "parents: {most: 1}"),
    "levels": ({**with_weight(per="model"), "parents": {}, "levels": [["model"]]}, "parents that take part or not"),
    "levels of choices": (
        {"method": "ties", "genes": {"weight": {"per": "model"}, "normalize": {}}, "levels": [["model"]]},
        "need ranges of numbers alone, and normalize is none",
    ),
    "group called rest": (with_weight(per={"groups": {"rest": "mlp."}}), "choose another name"),
    "filter twice": (with_weight(per={"groups": ["mlp.", "mlp."]}), "a filter twice"),
    "beyond float32": (with_weight(range=[0, 1e300]), "expected [low, high] with low < high"),
    "stack start": ({"method": "passthrough", "genes": {"gain": {"start": 3}}}, "expected a value inside [0.5, 1.5]"),
    "part": ({"method": "task_arithmetic", "modules": {"vision": {"genes": {"weight": {}}}}}, "no part vision"),
    "genes beside modules": (
        {**with_weight(), "modules": {"text_decoder": {"genes": {"weight": {"range": [0, 1]}}}}},
        "put the genes of each part under modules",
    ),
    "stack parents": ({"method": "passthrough", "genes": {"gain": {}}, "parents": {"most": 1}}, "has no parents"),
    "stack scale": ({"method": "passthrough", "genes": {"gain": {"scale": "log"}}}, "says nothing in a layer stack"),
}


def test_filters_of_hundreds_of_experts_in_every_layer_are_refused() -> None:
    places = tuple(
        TensorPlace(f"model.layers.{layer}.mlp.experts.{expert}.{name}.weight", layer, layer / 3, "text_decoder")
        for layer in range(LAYERS)
        for expert in range(1000)
        for name in ("gate_proj", "up_proj")
    )
    base, one = summary("base", LAYERS, places), summary("one", LAYERS, places)
    with pytest.raises(InvalidFile, match="needs 4004 filters in each recipe"):
        built(with_weight(per=["layer", {"groups": ["gate_proj"]}]), base, (one,))
    built(with_weight(per=[{"curve": 2}, {"groups": ["gate_proj"]}]), base, (one,))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    data, sentence = MISTAKES[name]
    with pytest.raises(InvalidFile) as caught:
        build_space(data, "space", BASE, MODELS)
    problems = [str(problem) for problem in caught.value.problems]
    assert any(sentence in problem for problem in problems), problems
    assert all(problem.startswith("space") and "\n" not in problem for problem in problems)


# -- coarse in fine ---------------------------------------------------------------------------------------------------

FINER: list[tuple[Any, Any]] = [
    (["model"], ["model", {"bands": 2}]),
    (["model", {"bands": 2}], ["model", {"bands": 4}]),
    (["model", {"bands": 3}], ["model", "layer"]),
    (["model", {"curve": 3}], ["model", "layer"]),
    (["model", {"curve": 2}], ["model", {"curve": 3}]),
    (["module"], ["model", "module", {"curve": 2}]),
    (["model", "module", {"curve": 3}], ["model", "module", "layer"]),
    ([{"groups": ["q_proj", "mlp."]}], ["layer", {"groups": ["q_proj", "k_proj", "mlp."]}]),
    (["model", {"groups": ["self_attn.", "mlp."]}, {"curve": 2}], ["model", "layer", "module"]),
]


@pytest.mark.parametrize(("coarse", "fine"), FINER, ids=str)
def test_a_winner_of_a_coarser_space_is_a_point_of_a_finer_one(coarse: Any, fine: Any) -> None:
    first, second = space_of(per=coarse), space_of(per=fine)
    reals = tuple(0.37 * (3 * i % 7) / 6 + 0.2 for i in range(first.domain.reals))
    recipe = first.decode(Point(reals=reals))
    refined = second.decode(second.encode(recipe))
    for place in PLACES:
        for model in range(3):
            was, now = (value(document, model, place.name) for document in (recipe, refined))
            assert abs(was - now) <= 1.5 / 10_000 / 2 + 1e-9, place.name


@pytest.mark.parametrize(("coarse", "fine"), FINER, ids=str)
def test_a_point_of_a_finer_space_is_no_point_of_a_coarser_one(coarse: Any, fine: Any) -> None:
    first, second = space_of(per=coarse), space_of(per=fine)
    draws = tuple(0.9 * (5 * i * i % 11) / 10 for i in range(second.domain.reals))
    with pytest.raises(InvalidInput, match="weight"):
        first.encode(second.decode(Point(reals=draws)))
