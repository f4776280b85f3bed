"""Everything mergekit's YAML can say, and what the evomerge: block adds."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evomerge.api.merge import merge
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.recipe import (
    ModelRef,
    TokenRule,
    load_recipe,
    load_recipes,
    parse_recipe,
    recipe_schema,
    to_mergekit,
)


def linear(*models: Any, **rest: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": m, "parameters": {"weight": 1}} for m in models], **rest}


def problems(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parse_recipe(document, where="r")
    return [str(problem) for problem in caught.value.problems]


# modules


def test_one_module_is_the_recipe_with_a_level_of_its_own() -> None:
    inner = {"slices": [{"sources": [{"model": "a/a", "layer_range": [0, 2]}]}], "parameters": {"weight": 0.25}}
    recipe = parse_recipe({"merge_method": "linear", "modules": {"default": inner}})
    assert recipe.slices[0].sources[0].layers == (0, 2)
    assert recipe.slices[0].module_parameters == {"weight": 0.25}
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_a_modules_parameters_stand_between_slice_and_recipe(pico: dict[str, Path], tmp_path: Path) -> None:
    filters = {"weight": [{"filter": "mlp", "value": 1.0}]}
    source = {"model": str(pico["one"]), "layer_range": [0, 3]}
    other = {"model": str(pico["two"]), "layer_range": [0, 3], "parameters": {"weight": 1.0}}
    document = {
        "merge_method": "linear",
        "modules": {"default": {"slices": [{"sources": [source, other]}], "parameters": filters}},
        "parameters": {"weight": 0.0},
        "dtype": "float32",
    }
    found = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    one, two = (load_file(pico[name] / "model.safetensors") for name in ("one", "two"))
    for name, weight in (("mlp.up_proj", 0.5), ("self_attn.q_proj", 0.0)):
        key = f"model.layers.1.{name}.weight"
        expected = weight * one[key].float() + (1 - weight) * two[key].float()
        torch.testing.assert_close(found[key], expected)


def test_modules_that_make_no_sense_are_refused_in_one_sentence() -> None:
    inner = {"models": [{"model": "a/a", "parameters": {"weight": 1}}]}
    found = problems({"merge_method": "linear", "modules": {"default": inner, "vision_tower": inner}})
    assert found == [
        "r: modules: found default, vision_tower, expected default alone, as it is the whole model, or parts of it"
    ]
    sliced = {"slices": [{"sources": [{"model": "a/a", "layer_range": [0, 2], "parameters": {"weight": 1}}]}]}
    found = problems({"merge_method": "linear", "modules": {"text_decoder": sliced, "vision_tower": sliced}})
    assert len(found) == 1
    assert found[0].startswith("r: modules.vision_tower.slices: only text_decoder, the language model, can be cut")


def test_each_module_has_its_own_models_and_parameters() -> None:
    vision = {"models": [{"model": "a/a"}], "parameters": {"weight": 0.25}}
    text = {"models": [{"model": "b/b", "parameters": {"weight": 1}}, {"model": "c/c", "parameters": {"weight": 2}}]}
    recipe = parse_recipe({"merge_method": "linear", "modules": {"vision_tower": vision, "text_decoder": text}})
    assert [*recipe.modules] == ["vision_tower", "text_decoder"]
    assert recipe.modules["vision_tower"][0].module_parameters == {"weight": 0.25}
    assert [str(ref) for ref in recipe.models] == ["a/a", "b/b", "c/c"]
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_problems_inside_a_module_say_where() -> None:
    inner = {"models": [{"model": "a/a", "parameters": {"wieght": 1}}]}
    found = problems({"merge_method": "linear", "modules": {"default": inner}})
    assert "r: modules.default.models.0.parameters.wieght" in found[0]
    assert problems({"merge_method": "linear", "modules": {"default": {}}})[0].startswith(
        "r: modules.default: needs exactly"
    )
    expected = "r: needs exactly one of models: and slices: (or modules: around them)"
    assert problems({"merge_method": "linear"}) == [expected]


# tokenizer


@pytest.mark.parametrize("key", ["tokenizer_source", "tokenizer"])
@pytest.mark.parametrize("source", ["union", "base", "a/b@main", {"model": {"path": "a/b"}}])
def test_every_form_of_a_source(key: str, source: Any) -> None:
    recipe = parse_recipe(
        linear("a/b@main", "a/b", **{key: source if key == "tokenizer_source" else {"source": source}})
    )
    assert recipe.vocabulary is not None
    assert recipe.vocabulary.source == (source if source in ("union", "base") else ModelRef.parse(source))
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_every_form_of_a_token_rule() -> None:
    tokens = {
        "a": {"source": "x/y"},
        "b": {"source": {"kind": "zero"}, "force": True},
        "c": {"source": {"kind": "model_token", "model": "x/y", "token": "d"}},
        "d": {"source": {"kind": "model_token", "model": {"model": "x/y"}, "token_id": 7}},
    }
    recipe = parse_recipe(linear("x/y", tokenizer={"tokens": tokens, "pad_to_multiple_of": 64}))
    ref = ModelRef("x/y")
    assert recipe.vocabulary is not None
    assert recipe.vocabulary.source == "union"
    assert recipe.vocabulary.multiple == 64
    assert recipe.vocabulary.tokens == {
        "a": TokenRule(model=ref),
        "b": TokenRule(force=True),
        "c": TokenRule(model=ref, token="d"),
        "d": TokenRule(model=ref, token=7),
    }
    assert parse_recipe(yaml.safe_load(recipe.to_yaml())).fingerprint == recipe.fingerprint


@pytest.mark.parametrize(
    "rule",
    [{"source": {"kind": "zeros"}}, {"source": {"kind": "model_token", "model": "x/y"}}, {"from": "x/y"}, 3,
     {"source": {"kind": "model_token", "model": "x/y", "token_id": "7"}}, {"source": "x/y", "force": "yes"}],
)  # fmt: skip
def test_malformed_token_rules_are_problems(rule: Any) -> None:
    assert problems(linear("x/y", tokenizer={"tokens": {"a": rule}}))[0].startswith("r: tokenizer.tokens.a: found")


def test_both_tokenizer_keys_are_a_problem() -> None:
    assert "keep one" in problems(linear("x/y", tokenizer={"source": "base"}, tokenizer_source="base"))[0]


# chat templates


@pytest.mark.parametrize("name", ["alpaca", "chatml", "exaone", "llama3", "mistral", "{{ messages[0].content }}"])
def test_a_chat_template_is_written_and_renders(name: str, pico: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    out = merge(linear(str(pico["base"]), chat_template=name), tmp_path / "out")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Go"},
    ]
    text = AutoTokenizer.from_pretrained(out).apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == RENDERED.get(name, "Be brief.")


RENDERED = {
    "alpaca": "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nYes</s>\n\n### Instruction:\nGo\n\n### Response:\n",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes"
    "<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n<|im_start|>assistant\n",
    "exaone": "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Yes[|endofturn|]\n[|user|]Go\n[|assistant|]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nGo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Be brief.\n\nHi [/INST] Yes</s>[INST] Go [/INST]",
}


def test_auto_takes_the_most_common_template(pico: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    copies = [Path(shutil.copytree(pico[name], tmp_path / name)) for name in ("base", "one", "two")]
    for folder, text in zip(copies, ("{{ 'x' }}", "{{ 'y' }}", "{{ 'y' }}"), strict=True):
        (folder / "chat_template.jinja").write_text(text)
    out = merge(linear(*map(str, copies), chat_template="auto"), tmp_path / "out")
    assert (out / "chat_template.jinja").read_text() == "{{ 'y' }}"


def test_an_unknown_template_is_a_problem() -> None:
    assert 'Did you mean "chatml"' in problems(linear("x/y", chat_template="chatlm"))[0]


# slices


def test_zero_length_slices_choose_embeddings_and_head(pico: dict[str, Path], tmp_path: Path) -> None:
    ranges = [("base", 0, 0), ("one", 0, 3), ("two", 0, 0)]
    slices = [{"sources": [{"model": str(pico[name]), "layer_range": [a, b]}]} for name, a, b in ranges]
    out = load_file(merge({"merge_method": "passthrough", "slices": slices}, tmp_path / "out") / "model.safetensors")
    for key, name in (
        ("model.embed_tokens.weight", "base"),
        ("model.layers.1.mlp.up_proj.weight", "one"),
        ("model.norm.weight", "two"),
        ("lm_head.weight", "two"),
    ):
        assert torch.equal(out[key], load_file(pico[name] / "model.safetensors")[key])


@pytest.mark.parametrize("listed", [True, False])
def test_a_base_listed_or_not_in_slices(listed: bool, pico: dict[str, Path], tmp_path: Path) -> None:
    sources = [{"model": str(pico["one"]), "layer_range": [0, 3], "parameters": {"weight": 0.5}}]
    sources += [{"model": str(pico["base"]), "layer_range": [0, 3]}] if listed else []
    document = {"merge_method": "task_arithmetic", "base_model": str(pico["base"]), "slices": [{"sources": sources}]}
    whole = {**document, "models": [{"model": str(pico["one"]), "parameters": {"weight": 0.5}}]}
    del whole["slices"]
    first, second = merge(document, tmp_path / "slices"), merge(whole, tmp_path / "models")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_a_slices_own_base(pico: dict[str, Path], tmp_path: Path) -> None:
    def part(base: str, start: int, end: int) -> dict[str, Any]:
        source = {"model": str(pico["one"]), "layer_range": [start, end], "parameters": {"weight": 1.0}}
        return {"sources": [source], "base_model": str(pico[base])}

    document = {
        "merge_method": "task_arithmetic",
        "slices": [part("two", 0, 1), part("three", 1, 3)],
        "dtype": "float32",
    }
    document["parameters"] = {"lambda": 0.0}
    out = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    for key, name in (("model.layers.0.mlp.up_proj.weight", "two"), ("model.layers.1.mlp.up_proj.weight", "three")):
        assert torch.equal(out[key], load_file(pico[name] / "model.safetensors")[key].float())


def test_keys_with_nothing_behind_them_say_nothing() -> None:
    plain = linear("x/y")
    empty = {**linear("x/y", parameters=None, tokenizer=None, base_model=None, slices=None, evomerge=None, dtype=None)}
    assert parse_recipe(empty).fingerprint == parse_recipe(plain).fingerprint
    sources = [{"model": "x/y", "layer_range": [0, 1], "parameters": None}]
    parse_recipe({"merge_method": "passthrough", "slices": [{"sources": sources, "parameters": None}]})
    parse_recipe(linear("x/y", tokenizer={"tokens": None, "pad_to_multiple_of": None}))


def test_a_model_is_listed_once() -> None:
    assert problems(linear("x/y", "x/y")) == [
        "r: models.1: x/y is listed twice; give it once, with the sum of the weights"
    ]
    ranges = [{"model": "x/y", "layer_range": [i, i + 2], "parameters": {"weight": 1}} for i in (0, 1)]
    parse_recipe({"merge_method": "linear", "slices": [{"sources": ranges}]})


def test_dtypes_by_torchs_name_too() -> None:
    recipe = parse_recipe(linear("x/y", dtype="torch.bfloat16", out_dtype="torch.float16"))
    assert (recipe.dtype, recipe.out_dtype) == ("bfloat16", "float16")


@pytest.mark.parametrize("value", [0.5, 2, [1, 0], [{"filter": "mlp", "value": 1}, {"value": 0}]])
def test_a_flag_is_no_number(value: Any) -> None:
    """A list of numbers would be a gradient, and half a flag means nothing."""
    assert "expected true or false" in problems(linear("x/y", parameters={"normalize": value}))[0]
    for good in (0, 1.0, True, [True, False], [{"filter": "mlp", "value": [True, False]}, {"value": False}]):
        parse_recipe(linear("x/y", parameters={"normalize": good}))


# merges of merges


def write_several(path: Path, pico: dict[str, Path]) -> Path:
    first = {"name": "half", **linear(str(pico["one"]), str(pico["two"]), dtype="float32")}
    second = {"name": "more", **linear("half", str(pico["three"]), dtype="bfloat16")}
    last = {
        "merge_method": "task_arithmetic",
        "base_model": str(pico["base"]),
        "models": [{"model": name, "parameters": {"weight": 0.5}} for name in ("half", "more")],
    }
    path.write_text(yaml.safe_dump_all([first, second, last]))
    return path


def test_later_documents_use_earlier_ones(pico: dict[str, Path], tmp_path: Path) -> None:
    path = write_several(tmp_path / "several.yaml", pico)
    assert list(load_recipes(path)) == ["half", "more", ""]
    out = merge(path, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"several.yaml", "out"}
    half = merge(linear(str(pico["one"]), str(pico["two"]), dtype="float32"), tmp_path / "half")
    more = merge(linear(str(half), str(pico["three"]), dtype="bfloat16"), tmp_path / "more")
    by_hand = {
        "merge_method": "task_arithmetic",
        "base_model": str(pico["base"]),
        "models": [{"model": str(folder), "parameters": {"weight": 0.5}} for folder in (half, more)],
    }
    expected = merge(by_hand, tmp_path / "expected")
    assert (out / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    again = merge(out / "recipe.yaml", tmp_path / "again")
    assert (out / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


def test_merges_of_merges_on_the_command_line_and_live(pico: dict[str, Path], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from evomerge.checkpoint import Parents
    from evomerge.cli.merge import command
    from evomerge.engine import LiveModel, make_plan

    path = write_several(tmp_path / "several.yaml", pico)
    result = CliRunner().invoke(command, [str(path), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    recipe = load_recipe(path)
    parents = Parents(recipe.models)
    live = LiveModel(parents)
    live.apply(make_plan(recipe, parents))
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(tensor, live.model.state_dict()[name]) for name, tensor in written.items())


def test_mergekit_multi_gets_its_documents_back(pico: dict[str, Path], tmp_path: Path) -> None:
    text = to_mergekit(load_recipe(write_several(tmp_path / "several.yaml", pico))).text
    documents = list(yaml.safe_load_all(text))
    assert [document.get("name") for document in documents] == ["half", "more", None]


def test_faults_of_several_documents(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    for documents, words in (
        ([linear("x/a"), linear("x/b")], "2 documents have no name"),
        ([{"name": "a", **linear("x/a")}, {"name": "a", **linear("x/a")}, linear("a")], 'the name "a"'),
        ([{"name": "a", **linear("x/a", dtyp="float32")}, linear("a")], "evomerge.merges.a: unknown key"),
        ([linear("x/a"), 3], "expected a recipe in each"),
    ):
        path.write_text(yaml.safe_dump_all(documents))
        with pytest.raises(InvalidInput) as caught:
            load_recipe(path)
        assert words in str(caught.value)


def test_a_name_must_come_before_its_use(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        yaml.safe_dump_all([{"name": "a", **linear("b")}, {"name": "b", **linear("x/y")}, linear("a", "b")])
    )
    with pytest.raises(InvalidInput, match="b: no such folder"):
        merge(path, tmp_path / "out")


# the evomerge: block


def test_variants_reach_the_method_and_are_checked(pico: dict[str, Path], tmp_path: Path) -> None:
    from evomerge import methods

    method = next(
        m for m in map(methods.get, methods.names()) if m.variants and m.base == "required" and m.inputs[0] <= 1
    )
    variant = method.variants[0]
    known = {p.name for p in method.parameters}
    given = [{"weight": weight, "density": 0.5} for weight in (0.2, 0.9)]
    document = {
        "merge_method": method.name,
        "base_model": str(pico["base"]),
        "models": [
            {"model": str(pico[name]), "parameters": {k: v for k, v in values.items() if k in known}}
            for name, values in zip(("one", "two"), given, strict=True)
        ],
    }
    outputs = set()
    for option in variant.options:
        chosen = {**document, "evomerge": {"variants": {variant.name: option}}}
        outputs.add((merge(chosen, tmp_path / option) / "model.safetensors").read_bytes())
    assert len(outputs) == len(variant.options)
    bad = {**document, "evomerge": {"variants": {variant.name + "s": "x", variant.name: "nonsense"}}}
    found = problems(bad)
    assert f'Did you mean "{variant.name}"' in found[0]
    assert f"expected one of {', '.join(variant.options)}" in found[1]


def test_some_tensors_are_merged_by_another_method(pico: dict[str, Path], tmp_path: Path) -> None:
    """Each tensor is that of a recipe of its method alone; a method without a base ignores it."""
    models = [{"model": str(pico[name]), "parameters": {"weight": 0.6, "density": 0.5}} for name in ("one", "two")]
    document = {
        "merge_method": "linear",
        "base_model": str(pico["base"]),
        "models": models,
        "evomerge": {
            "methods": [{"filter": "self_attn.", "method": "ties"}, {"filter": ".1.", "method": "dare_linear"}]
        },
    }
    assert parse_recipe(document).methods == ("linear", "ties", "dare_linear")
    found = load_file(merge(document, tmp_path / "out") / "model.safetensors")
    alone = {}
    for name in ("linear", "ties", "dare_linear"):
        plain = {**document, "merge_method": name, "evomerge": {}}
        alone[name] = load_file(merge(plain, tmp_path / name) / "model.safetensors")
    for tensor, values in found.items():
        name = "ties" if "self_attn." in tensor else "dare_linear" if ".1." in tensor else "linear"
        assert torch.equal(values, alone[name][tensor]), tensor
    with pytest.raises(InvalidInput, match=r"no key for evomerge\.methods"):
        to_mergekit(parse_recipe(document))
    wrong = {"methods": [{"filter": "mlp", "method": "tyes"}]}
    assert 'Did you mean "ties"' in problems({**document, "evomerge": wrong})[0]
    baseless = {key: value for key, value in document.items() if key != "base_model"}
    assert "ties needs the model that the others share" in problems(baseless)[0]


# JSON Schema


def test_the_schema_accepts_recipes_and_refuses_mistakes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(recipe_schema())
    jsonschema.Draft202012Validator.check_schema(recipe_schema())
    good = [
        linear("a/b", {"model": {"path": "c", "revision": "main"}, "lora": "d"}, dtype="bfloat16"),
        linear("a/b", tokenizer={"source": "union", "tokens": {"x": {"source": {"kind": "zero"}}}}),
        linear("a/b", parameters={"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 0.5}]}),
        linear("a/b", evomerge={"seed": 3, "commits": {"a/b": "0" * 40}}),
    ]
    assert all(validator.is_valid(document) for document in good)
    bad = [linear("a/b", dtyp="bfloat16"), linear(3), linear("a/b", dtype="int8"), {"models": []}]
    assert not any(validator.is_valid(document) for document in bad)


@pytest.mark.parametrize("name", ["recipe", "search", "space"])
def test_the_command_prints_a_schema(name: str) -> None:
    import json

    from click.testing import CliRunner

    from evomerge.cli.schema import command

    result = CliRunner().invoke(command, [name])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["type"] == "object"


def test_the_schemas_accept_what_is_shipped_and_documented() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from evomerge.run import search_schema
    from evomerge.space import shipped_spaces, space_schema

    space = jsonschema.Draft202012Validator(space_schema())
    files = list(Path(__file__).parents[2].glob("search_spaces/*.yaml"))
    assert len(files) == len(list(shipped_spaces()))
    for path in files:
        assert not list(space.iter_errors(yaml.safe_load(path.read_text()))), path.name
    search = jsonschema.Draft202012Validator(search_schema())
    document = {
        "parents": {"base": "./base", "models": ["./a", {"model": {"path": "x/y", "revision": "v1"}}]},
        "space": {"method": "linear", "genes": {"weight": {"per": ["model", {"curve": 3}], "range": [0, 1]}}},
        "tasks": [{"task": "add", "floor": {"parent": "a", "minus": 0.02}}, {"scorer": "f.py:g"}],
        "optimizer": "cma",
        "budget": {"candidates": 10},
    }
    assert not list(search.iter_errors(document))
    assert list(search.iter_errors({**document, "pool": {}}))
