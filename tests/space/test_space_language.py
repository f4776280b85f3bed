"""The language of spaces of merges: whatever a file says, points are valid recipes and come back exactly."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomerge import methods
from evomerge.recipe import parse_recipe, value_at
from evomerge.records import ParentSummary, Point, TensorPlace
from evomerge.space import MergeSpace, build_space

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


def summary(name: str, tensors: tuple[TensorPlace, ...] = PLACES) -> ParentSummary:
    return ParentSummary(
        name=name,
        architecture="LlamaForCausalLM",
        block_prefix="model.layers.",
        num_layers=LAYERS,
        hidden_size=32,
        vocab_size=64,
        dtype="bfloat16",
        size_bytes=1000,
        tensors=tensors,
    )


BASE, ONE, TWO, THREE = (summary(name) for name in ("base", "one", "two", "three"))
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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
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
