"""Vision-language models: merged by part, stacked by their language model, scored on text; plain ones merged in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge, plan_merge
from evomerge.checkpoint import Checkpoint, Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidInput, MergeFailed
from evomerge.recipe import parse_recipe
from evomerge.testing.families import VISION_CONFIGS
from evomerge.testing.pico import auto_class, character_tokenizer, write_pico

TOKENS = torch.arange(3, 35).view(2, 16)
# Each names and nests its parts in its own way: old wrappers, a flat language model, fused and transposed experts.
KINDS = ["llava", "paligemma", "qwen2_5_vl", "qwen3_5", "qwen3_vl_moe", "smolvlm"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


def stack(*ranges: tuple[Path, int, int]) -> list[dict[str, Any]]:
    return [{"sources": [{"model": str(m), "layer_range": [start, end]}]} for m, start, end in ranges]


def same_when_loaded(document: dict[str, Any], out: Path, family: str) -> Path:
    """Merge to a folder and in memory; compare logits and greedy tokens of both; return the folder."""
    folder = merge(document, out)
    loaded, info = auto_class(family).from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    recipe = parse_recipe(document)
    live = LiveModel(Parents(recipe.models))
    live.apply(make_plan(recipe, live.parents))
    answers = []
    for model in (loaded.eval(), live.model):
        with torch.inference_mode():
            tokens = model.generate(TOKENS[:, :6], max_new_tokens=8, do_sample=False)
            answers.append((model(TOKENS).logits, tokens))
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])
    return folder


@pytest.fixture
def llava(tmp_path: Path) -> dict[str, Path]:
    """A vision-language model, its fine-tune, and a language model with a fine-tune of its own."""
    base = write_pico(tmp_path / "vlm", 0, family="llava", **VISION_CONFIGS["llava"])
    language = write_pico(tmp_path / "llm", 2, family="llama", head_dim=8)
    return {
        "base": base,
        "tuned": write_pico(tmp_path / "tuned", 1, family="llava", near=base, **VISION_CONFIGS["llava"]),
        "language": language,
        "better": write_pico(tmp_path / "better", 3, family="llama", near=language, head_dim=8),
    }


@pytest.mark.parametrize("family", KINDS)
def test_a_layer_range_is_of_the_language_model(family: str, tmp_path: Path) -> None:
    one, two = (write_pico(tmp_path / f"m{i}", i, family=family, **VISION_CONFIGS[family]) for i in (1, 2))
    model = Checkpoint(one, "one")
    layout, depth = model.layout, model.layout.num_layers
    document = {"merge_method": "passthrough", "slices": stack((one, 0, depth - 1), (two, 1, depth))}
    folder = same_when_loaded(document, tmp_path / "out", family)
    found, first, second = weights(folder), weights(one), weights(two)
    assert Checkpoint(folder, "out").layout.num_layers == 2 * depth - 2
    for layer, (source, index) in enumerate(
        [*((first, i) for i in range(depth - 1)), *((second, i) for i in range(1, depth))]
    ):
        for suffix in model.outline.blocks[index]:
            assert torch.equal(found[layout.name(layer, suffix)], source[layout.name(index, suffix)])
    towers = {name for name in first if model.part_of(name) != "text_decoder"}
    assert towers and all(torch.equal(found[name], first[name]) for name in towers)
    config = json.loads((folder / "config.json").read_text())
    assert config["vision_config"] == json.loads((one / "config.json").read_text())["vision_config"]


@pytest.mark.parametrize("family", KINDS)
def test_merged_whole_live_and_on_disk(family: str, tmp_path: Path) -> None:
    base = write_pico(tmp_path / "base", 0, family=family, dtype="bfloat16", **VISION_CONFIGS[family])
    near = {"family": family, "near": base, "dtype": "bfloat16"}
    models = [write_pico(tmp_path / f"m{i}", i, **near, **VISION_CONFIGS[family]) for i in (1, 2)]
    entries = [{"model": str(m), "parameters": {"weight": 0.5, "density": 0.5}} for m in models]
    document = {"merge_method": "ties", "base_model": str(base), "models": entries}
    found = weights(same_when_loaded(document, tmp_path / "out", family))
    assert set(found) == set(weights(base))


def test_parts_are_merged_one_by_one(llava: dict[str, Path], tmp_path: Path) -> None:
    """The tower is all the fine-tune's, the language model half of each; the projector stays the base's."""
    models = [{"model": str(llava["tuned"])}]
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(llava["base"]),
        "modules": {
            "vision_tower": {"models": models, "parameters": {"weight": 1.0}},
            "text_decoder": {"models": models, "parameters": {"weight": 0.5}},
        },
        "dtype": "float32",
    }
    found = weights(same_when_loaded(document, tmp_path / "out", "llava"))
    base, tuned = weights(llava["base"]), weights(llava["tuned"])
    shares = {"vision_tower": 1.0, "language_model": 0.5, "multi_modal_projector": 0.0}
    assert set(found) == set(base)
    for name, tensor in found.items():
        share = shares[name.partition(".")[0]]
        torch.testing.assert_close(tensor, base[name] + share * (tuned[name] - base[name]), msg=name)


def test_a_language_model_is_merged_into_that_of_a_vision_language_model(
    llava: dict[str, Path], tmp_path: Path
) -> None:
    """Sakana's recipe: the language models share a base of their own; what sees is taken as it is."""
    sources = [
        {"model": str(llava[name]), "layer_range": [0, 3], "parameters": {"weight": weight}}
        for name, weight in (("base", 0.75), ("better", 0.5))
    ]
    text = {"slices": [{"base_model": str(llava["language"]), "sources": sources}]}
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(llava["base"]),
        "modules": {"text_decoder": text},
        "dtype": "float32",
    }
    found = weights(same_when_loaded(document, tmp_path / "out", "llava"))
    seeing, plain, better = weights(llava["base"]), weights(llava["language"]), weights(llava["better"])
    assert set(found) == set(seeing)
    for name, tensor in found.items():
        if name.startswith("language_model."):
            own = plain[name.removeprefix("language_model.")]
            other = better[name.removeprefix("language_model.")]
            torch.testing.assert_close(tensor, own + 0.75 * (seeing[name] - own) + 0.5 * (other - own), msg=name)
        else:
            assert torch.equal(tensor, seeing[name])


def test_a_language_model_gives_blocks_to_a_vision_language_model(llava: dict[str, Path], tmp_path: Path) -> None:
    slices = stack((llava["base"], 0, 2), (llava["better"], 1, 3))
    modules = {"text_decoder": {"slices": slices}}
    document = {"merge_method": "passthrough", "base_model": str(llava["base"]), "modules": modules}
    folder = same_when_loaded(document, tmp_path / "out", "llava")
    key = "self_attn.q_proj.weight"
    expected = weights(llava["better"])[f"model.layers.2.{key}"]
    assert torch.equal(weights(folder)[f"language_model.model.layers.3.{key}"], expected)
    assert torch.equal(weights(folder)["language_model.lm_head.weight"], weights(llava["better"])["lm_head.weight"])


def test_folders_of_several_spellings_are_merged(llava: dict[str, Path], tmp_path: Path) -> None:
    """Since transformers 4.52 some checkpoints have the names of the model in memory, others the old ones."""
    tensors = weights(llava["tuned"])
    heads = {"language_model.lm_head.": "lm_head.", "language_model.model.": "model.language_model."}
    for name in list(tensors):
        old, new = next(((o, n) for o, n in heads.items() if name.startswith(o)), ("", "model."))
        tensors[new + name.removeprefix(old)] = tensors.pop(name)
    plain = {"merge_method": "linear", "dtype": "float32"}
    entries = [{"model": str(llava[name]), "parameters": {"weight": 1}} for name in ("base", "tuned")]
    expected = weights(merge({**plain, "models": entries}, tmp_path / "expected"))
    save_file(tensors, llava["tuned"] / "model.safetensors", {"format": "pt"})
    found = weights(same_when_loaded({**plain, "models": entries}, tmp_path / "out", "llava"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_config_without_a_part_for_text(tmp_path: Path) -> None:
    """The hub's Qwen2.5-VL states its language model's values beside the vision config, not in a part of their own."""
    family = "qwen2_5_vl"
    folders = [write_pico(tmp_path / f"m{i}", i, family=family, **VISION_CONFIGS[family]) for i in (1, 2)]
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        text = config.pop("text_config")
        (folder / "config.json").write_text(json.dumps({**text, **config}))
    depth = Checkpoint(folders[0], "one").layout.num_layers
    document = {"merge_method": "passthrough", "slices": stack((folders[0], 0, depth - 1), (folders[1], 1, depth))}
    folder = same_when_loaded(document, tmp_path / "out", family)
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 2 * depth - 2
    assert len(config["layer_types"]) == 2 * depth - 2


def test_an_adapter_of_the_language_model_is_applied(llava: dict[str, Path], tmp_path: Path) -> None:
    """PEFT writes the names of the model in memory, which are not those of the folder."""
    peft = pytest.importorskip("peft")
    model = auto_class("llava").from_pretrained(llava["base"], dtype=torch.float32)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    adapted.save_pretrained(tmp_path / "lora")
    reference = {"model": str(llava["base"]), "lora": str(tmp_path / "lora")}
    folder = merge({"merge_method": "passthrough", "models": [{"model": reference}]}, tmp_path / "out")
    found = auto_class("llava").from_pretrained(folder).state_dict()
    expected = adapted.merge_and_unload().state_dict()
    assert not torch.equal(
        expected["model.language_model.layers.0.self_attn.q_proj.weight"],
        weights(llava["base"])["language_model.model.layers.0.self_attn.q_proj.weight"],
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].float(), tensor.float(), rtol=1e-5, atol=1e-6, msg=name)


def test_what_is_no_part_is_refused_in_words(llava: dict[str, Path], tmp_path: Path) -> None:
    def plan(modules: dict[str, Any]) -> None:
        plan_merge({"merge_method": "linear", "base_model": str(llava["base"]), "modules": modules})

    def whole(model: str) -> dict[str, Any]:
        return {"models": [{"model": str(llava[model]), "parameters": {"weight": 1}}]}

    with pytest.raises(InvalidInput, match=r"has no part ears; it has .*text_decoder"):
        plan({"ears": whole("tuned")})
    with pytest.raises(InvalidInput, match="llm has no part vision_tower; it has text_decoder"):
        plan({"vision_tower": whole("language")})
    entries = [whole(model)["models"][0] for model in ("base", "language")]
    with pytest.raises(InvalidInput, match=r"llm has no tensor .*; a model without these parts .* modules:"):
        plan_merge({"merge_method": "linear", "models": entries})


def test_blocks_that_nobody_can_name_are_not_cut(tmp_path: Path) -> None:
    folder = write_pico(tmp_path / "model", 0, family="llava", **VISION_CONFIGS["llava"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "of_tomorrow", "architectures": ["X"]}))
    with pytest.raises(InvalidInput, match="has several parts, and which blocks a layer_range means is not known"):
        merge({"merge_method": "passthrough", "slices": stack((folder, 0, 2))}, tmp_path / "out")
    whole = {"merge_method": "passthrough", "models": [{"model": str(folder)}]}
    assert torch.equal(
        *(weights(f)["vision_tower.pre_layrnorm.weight"] for f in (folder, merge(whole, tmp_path / "o")))
    )


def test_a_model_of_two_towers_without_logits(tmp_path: Path) -> None:
    """CLIP: its text tower is the part that a layer_range means; it gives no logits, so it is not scored."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 64, "max_position_embeddings": 32, "eos_token_id": 2, "num_hidden_layers": 3}
    vision = {**tower, "image_size": 8, "patch_size": 4, "num_hidden_layers": 4}
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
        character_tokenizer().save_pretrained(folder)
    document = {"merge_method": "passthrough", "slices": stack((folders[0], 0, 3), (folders[1], 2, 3))}
    folder = merge(document, tmp_path / "out")
    loaded, info = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert len(loaded.text_model.encoder.layers) == len(loaded.vision_model.encoder.layers) == 4
    key = "text_model.encoder.layers.{}.mlp.fc1.weight"
    assert torch.equal(weights(folder)[key.format(3)], weights(folders[1])[key.format(2)])
    recipe = parse_recipe(document)
    live = LiveModel(Parents(recipe.models))
    with pytest.raises(MergeFailed, match="is no causal language model"):
        live.apply(make_plan(recipe, live.parents))
