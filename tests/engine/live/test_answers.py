"""The live model answers as its exported folder does after plain `from_pretrained`: settings, dtypes, tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan, write_folder
from evomerge.errors import InvalidInput
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico

SETTINGS = {"eos_token_id": [2, 17, 33], "repetition_penalty": 1.3, "do_sample": True, "top_k": 5, "temperature": 0.7}
PROMPT = torch.tensor([[1, 9, 30, 12, 25, 44]])


def settle(folder: Path, **settings: Any) -> Path:
    """Give a model generation settings of its own."""
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "pad_token_id": 0, **settings}))
    return folder


def cast(folder: Path, dtype: torch.dtype, *parts: str) -> Path:
    """Store the tensors whose name holds one of the parts in another dtype."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    chosen = {name for name in tensors if any(part in name for part in parts)}
    assert chosen
    save_file({name: t.to(dtype) if name in chosen else t for name, t in tensors.items()}, file, {"format": "pt"})
    return folder


def live_and_reloaded(document: dict[str, Any], out: Path) -> tuple[LiveModel, Any]:
    """Return the live model of a recipe, and what plain `from_pretrained` makes of its export."""
    from transformers import AutoModelForCausalLM

    recipe = parse_recipe(document)
    live = LiveModel(Parents(recipe.models))
    plan = make_plan(recipe, live.parents)
    live.apply(plan)
    write_folder(plan, live.parents, out)
    return live, AutoModelForCausalLM.from_pretrained(out)


def assert_equal_answers(live: LiveModel, reloaded: Any) -> None:
    """Same settings, same dtypes, same logits, same answers."""
    assert live.model.generation_config.to_dict() == reloaded.generation_config.to_dict()
    dtypes = {name: tensor.dtype for name, tensor in reloaded.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in live.model.state_dict().items()} == dtypes
    with torch.inference_mode():
        assert torch.equal(live.model(PROMPT).logits, reloaded(PROMPT).logits)
        greedy = {"max_new_tokens": 24, "do_sample": False}
        assert live.model.generate(PROMPT, **greedy).tolist() == reloaded.generate(PROMPT, **greedy).tolist()


def merged(*models: Path) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": str(m), "parameters": {"weight": 0.5}} for m in models]}


def stacked(*models: Path) -> dict[str, Any]:
    slices = [{"sources": [{"model": str(model), "layer_range": [i, i + 2]}]} for i, model in enumerate(models)]
    return {"merge_method": "passthrough", "slices": slices}


def test_generation_settings_are_those_of_the_folder(tmp_path: Path) -> None:
    one = settle(write_pico(tmp_path / "one", 0), **SETTINGS)
    two = write_pico(tmp_path / "two", 1, near=one)
    live, reloaded = live_and_reloaded(merged(one, two), tmp_path / "out")
    assert live.model.generation_config.eos_token_id == [2, 17, 33]
    assert_equal_answers(live, reloaded)


def test_generation_settings_follow_the_candidate(tmp_path: Path) -> None:
    """Two parents with equal configs share a model object, but not their settings."""
    one = settle(write_pico(tmp_path / "one", 0), **SETTINGS)
    two = settle(write_pico(tmp_path / "two", 1), eos_token_id=7, no_repeat_ngram_size=2)
    three = write_pico(tmp_path / "three", 2)
    (three / "generation_config.json").unlink()
    recipes = [parse_recipe(merged(*models)) for models in ((one, two), (two, one), (three, one))]
    live = LiveModel(Parents([ref for recipe in recipes for ref in recipe.models]))
    for number, recipe in enumerate(recipes):
        plan = make_plan(recipe, live.parents)
        live.apply(plan)
        write_folder(plan, live.parents, tmp_path / f"out{number}")
        from transformers import AutoModelForCausalLM

        assert_equal_answers(live, AutoModelForCausalLM.from_pretrained(tmp_path / f"out{number}"))
        live.model.generation_config.max_new_tokens = 1  # as a scorer may do


@pytest.mark.parametrize(("content", "words"), [("{nope", "is not valid JSON"), ("[1]", "found list, expected")])
def test_damaged_generation_settings_are_named(content: str, words: str, tmp_path: Path) -> None:
    """transformers would silently go on with its own."""
    one = write_pico(tmp_path / "one", 0)
    (one / "generation_config.json").write_text(content)
    recipe = parse_recipe(merged(one, write_pico(tmp_path / "two", 1, near=write_pico(tmp_path / "base", 0))))
    live = LiveModel(Parents(recipe.models))
    with pytest.raises(InvalidInput, match=rf"one/generation_config\.json: {words}"):
        live.apply(make_plan(recipe, live.parents))


def test_tokenizers_are_loaded_once(tmp_path: Path, pico: dict[str, Path]) -> None:
    """A model's tokenizer stays the same object, whichever others came between."""
    recipes = [parse_recipe(merged(pico[name])) for name in ("one", "two")]
    live = LiveModel(Parents([ref for recipe in recipes for ref in recipe.models]))
    seen = []
    for recipe in (*recipes, *recipes):
        live.apply(make_plan(recipe, live.parents))
        seen.append(live.tokenizer)
    assert seen[0] is seen[2] is not seen[1] is seen[3]


@pytest.mark.parametrize("parts", [("norm",), ("lm_head", "norm")])
@pytest.mark.parametrize("make", [merged, stacked])
def test_a_model_with_some_weights_in_float32(make: Any, parts: tuple[str, ...], tmp_path: Path) -> None:
    one = cast(write_pico(tmp_path / "one", 0, dtype="bfloat16"), torch.float32, *parts)
    two = cast(write_pico(tmp_path / "two", 1, near=one, dtype="bfloat16"), torch.float32, "norm")
    live, reloaded = live_and_reloaded(make(one, two), tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert_equal_answers(live, reloaded)


@pytest.mark.parametrize("make", [merged, stacked])
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float16", "bfloat16")])
def test_parents_of_two_dtypes(make: Any, dtypes: tuple[str, str], tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0, dtype=dtypes[0])
    two = write_pico(tmp_path / "two", 1, near=one, dtype=dtypes[1])
    live, reloaded = live_and_reloaded(make(one, two), tmp_path / "out")
    assert reloaded.dtype == torch.float32  # holds the values of both
    assert_equal_answers(live, reloaded)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16", "float32"])
def test_modules_that_a_family_keeps_in_float32(dtype: str | None, tmp_path: Path) -> None:
    config = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "head_dim": 8,
    }
    one = write_pico(tmp_path / "one", 0, family="glm4_moe", dtype="bfloat16", **config)
    two = write_pico(tmp_path / "two", 1, family="glm4_moe", near=one, dtype="bfloat16", **config)
    document = {**merged(one, two), **({"dtype": dtype} if dtype else {})}
    live, reloaded = live_and_reloaded(document, tmp_path / "out")
    kept = [name for name in reloaded.state_dict() if name.endswith("e_score_correction_bias")]
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert kept
    assert {stored[name].dtype for name in kept} == {torch.float32}
    assert_equal_answers(live, reloaded)
