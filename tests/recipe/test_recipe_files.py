"""Reading recipes: every problem at once, one canonical form, models by any of their names."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.recipe import (
    ModelRef,
    load_recipe,
    looks_local,
    parse_recipe,
    to_mergekit,
)

PLAIN: dict[str, Any] = {
    "merge_method": "task_arithmetic",
    "base_model": "base",
    "models": [
        {"model": "one", "parameters": {"weight": 0.5}},
        {"model": "two", "parameters": {"weight": 0.1}},
    ],
}
FINGERPRINT = "c73fe9b51b0be5732fc90e79b4db93ae519faa5a1c3b0bb99c7bb866d01071af"
STACK: dict[str, Any] = {
    "merge_method": "passthrough",
    "slices": [
        {"sources": [{"model": "one", "layer_range": [0, 2]}]},
        {"sources": [{"model": "two", "layer_range": [1, 3], "parameters": {"scale": 0.5}}]},
    ],
    "evomerge": {"gains": [1, 1, 0.5, 2], "seed": 7},
}
RICH: dict[str, Any] = {
    **PLAIN,
    "models": [
        {"model": "one@v2", "parameters": {"weight": [{"filter": "mlp", "value": [0.1, 0.2]}, {"value": 0.3}]}},
        {"model": {"model": {"path": "odd+name@x"}}, "parameters": {"weight": [0, 1, 0.5]}},
    ],
    "parameters": {"normalize": False, "lambda": 1.25},
    "dtype": "bfloat16",
    "out_dtype": "float16",
    "tokenizer": {"source": "base"},
    "evomerge": {"seed": 3},
}


@pytest.mark.parametrize("document", [PLAIN, STACK, RICH])
def test_a_recipe_survives_being_written_and_read(document: dict[str, Any], tmp_path: Path) -> None:
    recipe = parse_recipe(document)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again.fingerprint == recipe.fingerprint
    assert again.document == recipe.document
    assert (again.slices, again.base, again.parameters, again.gains) == (
        recipe.slices,
        recipe.base,
        recipe.parameters,
        recipe.gains,
    )


def test_the_fingerprint_is_of_what_is_said_not_how() -> None:
    first = parse_recipe(PLAIN).fingerprint
    backwards = dict(reversed(PLAIN.items())) | {
        "models": [dict(reversed(model.items())) for model in PLAIN["models"]],
    }
    for same in (
        backwards,
        PLAIN | {"models": [{"model": "one", "parameters": {"weight": "5e-1"}}, PLAIN["models"][1]]},
        PLAIN | {"base_model": {"model": {"path": "base"}}},
        PLAIN | {"parameters": {}, "evomerge": {}, "dtype": None},
        PLAIN | {"evomerge": {"parents_in": "elsewhere"}},
    ):
        assert parse_recipe(same).fingerprint == first, same
    whole = PLAIN | {"models": [{"model": "one", "parameters": {"weight": 1}}]}
    fraction = PLAIN | {"models": [{"model": "one", "parameters": {"weight": 1.0}}]}
    assert parse_recipe(whole).fingerprint == parse_recipe(fraction).fingerprint
    for other in (
        whole,
        PLAIN | {"models": PLAIN["models"][::-1]},
        PLAIN | {"base_model": "other"},
        PLAIN | {"parameters": {"normalize": True}},
        PLAIN | {"dtype": "float32"},
        PLAIN | {"evomerge": {"seed": 1}},
    ):
        assert parse_recipe(other).fingerprint != first, other


def test_the_fingerprint_does_not_change_between_releases() -> None:
    assert parse_recipe(PLAIN).fingerprint == FINGERPRINT


def test_a_recipe_is_written_for_a_folder_by_path_or_text(tmp_path: Path) -> None:
    (tmp_path / "here" / "one").mkdir(parents=True)
    document = {"merge_method": "passthrough", "models": [{"model": "one"}]}
    recipe = parse_recipe(document, root=tmp_path / "here")
    out = tmp_path / "there" / "deep"
    assert yaml.safe_load(recipe.to_yaml(out))["evomerge"] == {"parents_in": os.path.join("..", "..", "here")}
    assert recipe.to_yaml(str(out)) == recipe.to_yaml(out)
    assert "parents_in" not in recipe.to_yaml()


def test_another_seed_is_another_recipe() -> None:
    recipe = parse_recipe(PLAIN)
    seeded = recipe.with_seed(5)
    assert seeded.seed == 5
    assert parse_recipe(seeded.document).seed == 5
    assert seeded.fingerprint != recipe.fingerprint
    assert recipe.seed == 0


def test_who_is_read_and_who_gives_config_and_tokenizer() -> None:
    recipe = parse_recipe(PLAIN)
    assert [str(model) for model in recipe.models] == ["base", "one", "two"]
    assert str(recipe.config_source) == "base"
    assert str(parse_recipe(STACK).config_source) == "one"


# -- problems ---------------------------------------------------------------------------------------------------------


def problems_of(document: Any) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parse_recipe(document, where="merge.yaml")
    return [str(problem) for problem in caught.value.problems]


def with_model(**parameters: Any) -> dict[str, Any]:
    return PLAIN | {"models": [{"model": "one", "parameters": parameters}, PLAIN["models"][1]]}


ONE: dict[str, tuple[Any, str]] = {
    "nothing": (None, "merge.yaml: found None, expected a mapping"),
    "no method": ({k: v for k, v in PLAIN.items() if k != "merge_method"}, "merge.yaml: merge_method: is required"),
    "method": (PLAIN | {"merge_method": "task_arithmatic"}, 'Did you mean "task_arithmetic"?'),
    "key": (PLAIN | {"basemodel": "x"}, 'unknown key "basemodel"'),
    "model key": (
        PLAIN | {"models": [*PLAIN["models"], {"model": "x", "wieght": 1, "parameters": {"weight": 1}}]},
        'unknown key "wieght"',
    ),
    "parameter": (PLAIN | {"parameters": {"normlize": True}}, 'Did you mean "normalize"?'),
    "missing weight": (with_model(), "merge.yaml: models.0.parameters.weight: is missing"),
    "word": (with_model(weight="much"), "found 'much', expected a number"),
    "nan": (with_model(weight=float("nan")), "expected a finite number"),
    "infinity": (with_model(weight=[1, float("inf")]), "found inf, expected a finite number"),
    "too large": (with_model(weight=-1e39), "found -1e+39, expected a number of at most 3.4e+38"),
    "flag as number": (with_model(weight=True), "found True, expected a number"),
    "empty gradient": (with_model(weight=[]), "found an empty list"),
    "filter": (with_model(weight={"filter": 3, "value": 1}), "expected part of a tensor's name"),
    "no value": (with_model(weight={"filter": "mlp"}), "expected {filter:"),
    "density": (
        {
            "merge_method": "ties",
            "base_model": "b",
            "models": [{"model": "one", "parameters": {"weight": 1, "density": 2}}],
        },
        "expected a value from 0 to 1",
    ),
    "both": (PLAIN | {"slices": STACK["slices"]}, "exactly one of models: and slices:"),
    "neither": ({"merge_method": "linear"}, "exactly one of models: and slices:"),
    "no base": ({k: v for k, v in PLAIN.items() if k != "base_model"}, "base_model: is missing"),
    "too many": (
        {
            "merge_method": "slerp",
            "base_model": "b",
            "models": [{"model": "x"}, {"model": "y"}],
            "parameters": {"t": 0.5},
        },
        "slerp takes exactly 1 model(s) besides the base, found 2",
    ),
    "no t": ({"merge_method": "slerp", "base_model": "b", "models": [{"model": "x"}]}, "parameters.t: is missing"),
    "shared parameter for a model": (with_model(weight=1, normalize=True), "one value for the whole merge"),
    "dtype": (PLAIN | {"dtype": "bfloat"}, "merge.yaml: dtype: found 'bfloat'"),
    "range": (
        {"merge_method": "passthrough", "slices": [{"sources": [{"model": "x", "layer_range": [3, 1]}]}]},
        "found [3, 1], expected [start, end]",
    ),
    "lengths": (
        {
            "merge_method": "linear",
            "parameters": {"weight": 1},
            "slices": [{"sources": [{"model": m, "layer_range": [0, n]} for m, n in (("x", 2), ("y", 3))]}],
        },
        "its sources have [2, 3] layers",
    ),
    "gain": (STACK | {"evomerge": {"gains": [1, 0, 1, 1]}}, "evomerge.gains"),
    "two tokenizers": (PLAIN | {"tokenizer": {"source": "base"}, "tokenizer_source": "base"}, "say the same"),
    "empty name": (PLAIN | {"base_model": " "}, "found an empty model name"),
    "two signs": (PLAIN | {"base_model": "a@b@c"}, 'more than one "+" or "@"'),
}


@pytest.mark.parametrize("name", ONE)
def test_one_mistake_is_one_sentence_with_its_place(name: str) -> None:
    document, sentence = ONE[name]
    problems = problems_of(document)
    assert len(problems) == 1, problems
    assert sentence in problems[0]
    assert problems[0].startswith("merge.yaml")
    assert "\n" not in problems[0]


def test_all_problems_come_at_once() -> None:
    document = {
        "merge_method": "ties",
        "base_modle": "b",
        "base_model": "b",
        "models": [
            {"model": "one", "parameters": {"weight": "x", "density": 0.5}},
            {"model": "two", "parameters": {"weight": 1, "densty": 0.5}},
            {"model": "three", "parameters": {"weight": 1, "density": -1}},
        ],
        "dtype": "int3",
    }
    problems = "\n".join(problems_of(document))
    for place in ("base_modle", "models.0.parameters.weight", "models.1.parameters.densty", "models.2", "dtype"):
        assert place in problems, problems


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("org/name", ("org/name", None, None)),
        ("./models/a", ("./models/a", None, None)),
        ("org/name@abc123", ("org/name", "abc123", None)),
        ("org/name+org/lora", ("org/name", None, "org/lora")),
        ("org/name@v1+lora@v2", ("org/name", "v1", "lora@v2")),
        ({"model": "org/name@v1", "lora": "lora"}, ("org/name", "v1", "lora")),
        ({"model": {"path": "a+b@c", "revision": "v"}}, ("a+b@c", "v", None)),
        ({"path": "a@b"}, ("a@b", None, None)),
        ({"model": "a+b@v1"}, ("a+b", "v1", None)),  # in a mapping "+" belongs to the path, as with mergekit
        ({"model": "a", "lora": {"path": "l+m", "revision": "v"}}, ("a", None, "l+m@v")),
        ({"model": "a", "lora": None, "override_architecture": None}, ("a", None, None)),
    ],
)
def test_the_forms_of_a_models_name(form: Any, expected: tuple[Any, ...]) -> None:
    ref = ModelRef.parse(form)
    assert (ref.path, ref.revision, str(ref.lora) if ref.lora else None) == expected
    assert ModelRef.parse(ref.plain()) == ref, "what is written reads back"
    assert ModelRef.parse(yaml.safe_load(yaml.safe_dump(ref.plain()))) == ref


@pytest.mark.parametrize(
    "form",
    ["", "a+b+c", "a@b@c", 3, None, ["a"], {"lora": "x"}, {"model": "a", "laro": "b"}, {"path": None},
     {"path": "a", 1: 2}, {"path": "a", "model": "b"}, {"path": "a", "revision": 1}, {"model": "a@b@c"},
     {"model": "a", "override_architecture": "X Y"}, {"model": {"model": "a"}}, {"model": "a", "lora": ["b"]}],
)  # fmt: skip
def test_what_is_no_model(form: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        ModelRef.parse(form)


def test_paths_and_hub_names_differ_by_their_form() -> None:
    assert all(looks_local(path) for path in ("./a", "/a/b", "~/a", "a", "a/b/c", "../a/b", "a b/c"))
    assert not any(looks_local(path) for path in ("org/name", "mistralai/Mistral-7B-v0.1"))


# -- mergekit ---------------------------------------------------------------------------------------------------------


def test_in_mergekits_words_nothing_of_ours_is_left() -> None:
    text, notes = to_mergekit(parse_recipe(PLAIN | {"evomerge": {"seed": 3}}))
    content = yaml.safe_load(text)
    assert "evomerge" not in content
    assert content == parse_recipe(PLAIN).document
    assert notes == ()
    dare = PLAIN | {"merge_method": "dare_ties", "parameters": {"density": 0.5}}
    assert any("random masks" in note for note in to_mergekit(parse_recipe(dare)).notes)


def test_what_mergekit_cannot_say_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"evomerge\.gains"):
        to_mergekit(parse_recipe(STACK))
    assert "gains" not in to_mergekit(parse_recipe(STACK | {"evomerge": {"gains": [1, 1, 1, 1]}})).text
    with pytest.raises(InvalidInput, match=r"evomerge\.gains"):
        to_mergekit(parse_recipe(STACK), ["o_proj.weight"])  # a slice is scaled as a whole, too


def test_gains_of_a_stack_are_scales_for_mergekit() -> None:
    slices = [{"sources": [{"model": "one", "layer_range": [i, j]}]} for i, j in ((0, 0), (0, 3), (1, 2), (0, 0))]
    stack = {"merge_method": "passthrough", "slices": slices, "evomerge": {"gains": [1, 0.5, 0.5, 0.5]}}
    content = yaml.safe_load(to_mergekit(parse_recipe(stack), ["attn.o.weight", "mlp.down.weight"]).text)
    scale = [{"filter": "attn.o.weight", "value": 0.5}, {"filter": "mlp.down.weight", "value": 0.5}, {"value": 1.0}]
    plain, scaled = {"model": "one"}, {"model": "one", "parameters": {"scale": scale}}
    assert [part["sources"][0] for part in content["slices"]] == [
        {**plain, "layer_range": [0, 0]},
        {**plain, "layer_range": [0, 1]},
        {**scaled, "layer_range": [1, 3]},
        {**scaled, "layer_range": [1, 2]},
        {**plain, "layer_range": [0, 0]},
    ]
