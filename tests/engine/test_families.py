"""Every family by the same rules: merged, stacked, live and on disk, loaded by plain transformers; what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.api.merge import merge, plan_merge
from evomerge.checkpoint import (
    NORMED_OUTPUTS,
    PLAIN_OUTPUT_FAMILIES,
    Checkpoint,
    Layout,
    Parents,
    is_vocabulary,
)
from evomerge.engine import LiveModel, make_plan
from evomerge.errors import InvalidInput, MergeFailed
from evomerge.recipe import parse_recipe
from evomerge.testing.families import CONFIGS, ENCODER_CONFIGS, ENCODER_DECODER_CONFIGS, FURTHER_CONFIGS
from evomerge.testing.pico import ENCODERS, FAMILIES, auto_class, write_pico

TOKENS = torch.arange(3, 35).view(2, 16)
READABLE_AS_DECODERS = {"bert", "roberta"}  # encoders that transformers can load with a causal head, too


def family_of(family: str, root: Path) -> tuple[Path, Path, Path]:
    """Write a base and two fine-tunes in bf16."""
    config = {**CONFIGS, **ENCODER_CONFIGS, **ENCODER_DECODER_CONFIGS}.get(family, {})
    base = write_pico(root / "base", 0, family=family, dtype="bfloat16", **config)
    others = [write_pico(root / f"m{i}", i, family=family, near=base, dtype="bfloat16", **config) for i in (1, 2)]
    return base, others[0], others[1]


def load(folder: Path, family: str) -> Any:
    model, info = auto_class(family).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    more = {"decoder_input_ids": TOKENS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        found: torch.Tensor = model(TOKENS, **more).logits
    assert bool(torch.isfinite(found).all())
    return found


def live(*documents: dict[str, Any]) -> list[torch.Tensor]:
    """Return the logits of one live model that becomes one merge after another."""
    recipes = [parse_recipe(document) for document in documents]
    parents = Parents([ref for recipe in recipes for ref in recipe.models])
    model = LiveModel(parents)
    found = []
    for recipe in recipes:
        model.apply(make_plan(recipe, parents))
        found.append(logits(model.model))
    return found


def live_model(document: dict[str, Any]) -> Any:
    recipe = parse_recipe(document)
    made = LiveModel(Parents(recipe.models))
    made.apply(make_plan(recipe, made.parents))
    return made.model


def ties(base: Path, one: Path, two: Path) -> dict[str, Any]:
    models = [{"model": str(m), "parameters": {"weight": 0.5, "density": 0.5}} for m in (one, two)]
    return {"merge_method": "ties", "base_model": str(base), "models": models}


def stack(*ranges: tuple[Path, int, int]) -> dict[str, Any]:
    slices = [{"sources": [{"model": str(m), "layer_range": [start, end]}]} for m, start, end in ranges]
    return {"merge_method": "passthrough", "slices": slices}


@pytest.mark.parametrize("family", [*FAMILIES, *CONFIGS, *(name for name in ENCODER_CONFIGS if name != "albert")])
def test_merged_and_stacked(family: str, tmp_path: Path) -> None:
    """Loaded by plain transformers, an identity stack is the parent; the live model gives the folders' logits."""
    base, one, two = family_of(family, tmp_path)
    depth = Checkpoint(base, "base").layout.num_layers
    merged = logits(load(merge(ties(base, one, two), tmp_path / "merged"), family))
    assert not torch.equal(merged, logits(load(base, family)))
    whole = stack((one, 0, 1), (one, 1, depth))
    assert torch.equal(logits(load(merge(whole, tmp_path / "whole"), family)), logits(load(one, family)))
    deeper = stack((one, 0, depth - 1), (two, 1, depth))
    folder = merge(deeper, tmp_path / "deeper")
    assert Checkpoint(folder, "deeper").layout.num_layers == 2 * depth - 2
    stacked = logits(load(folder, family))
    if family not in ENCODERS:
        found = live(deeper, ties(base, two, one), ties(base, one, two), deeper)
        assert torch.equal(found[0], stacked) and torch.equal(found[3], stacked)
        assert torch.equal(found[2], merged)
    elif family not in READABLE_AS_DECODERS:
        with pytest.raises(MergeFailed, match="is no causal language model"):
            live(ties(base, one, two))


@pytest.mark.parametrize("family", sorted({*PLAIN_OUTPUT_FAMILIES, *NORMED_OUTPUTS}))
def test_a_gain_scales_all_that_a_block_adds(family: str, tmp_path: Path) -> None:
    """x + g f(x): with a hundredth of it, the residual stream moves about a hundredth as far."""
    folder = write_pico(tmp_path / "model", 0, family=family, **{**CONFIGS, **FURTHER_CONFIGS}.get(family, {}))
    depth = Checkpoint(folder, "model").layout.num_layers
    moved = []
    for gain in (1.0, 0.01):
        document = {**stack((folder, 0, depth)), "dtype": "float32", "evomerge": {"gains": [gain] * depth}}
        model = live_model(document)
        with torch.inference_mode():
            states = model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states
        moved.append(float((states[depth - 1] - states[0]).abs().max()))
    assert 0.002 * moved[0] < moved[1] < 0.05 * moved[0]


@pytest.mark.parametrize("family", ["gemma2", "bert", "rwkv"])
def test_gains_are_refused_where_they_are_not_known_to_be_right(family: str, tmp_path: Path) -> None:
    config = {"attention_hidden_size": 32} if family == "rwkv" else {}
    folder = write_pico(tmp_path / "model", 0, family=family, **config)
    with pytest.raises(InvalidInput, match="gains"):
        plan_merge({**stack((folder, 0, 3)), "evomerge": {"gains": [0.5] * 3}})


def test_gains_are_refused_where_the_residual_stream_is_normalized(tmp_path: Path) -> None:
    folder = write_pico(tmp_path / "model", 0, family="opt", do_layer_norm_before=False)
    with pytest.raises(InvalidInput, match="normalizes the residual stream"):
        plan_merge({**stack((folder, 0, 3)), "evomerge": {"gains": [0.5] * 3}})


@pytest.mark.parametrize("family", ENCODER_DECODER_CONFIGS)
def test_encoder_decoders_are_merged_whole(family: str, tmp_path: Path) -> None:
    base, one, two = family_of(family, tmp_path)
    found = logits(load(merge(ties(base, one, two), tmp_path / "out"), family))
    assert not torch.equal(found, logits(load(base, family)))
    with pytest.raises(InvalidInput, match="has an encoder and a decoder, so a layer_range is ambiguous"):
        merge(stack((one, 0, 3)), tmp_path / "stack")
    with pytest.raises(MergeFailed, match=f"a {family} is no causal language model, so it cannot be scored"):
        live(ties(base, one, two))


def test_a_gradient_runs_over_each_stack_by_itself(tmp_path: Path) -> None:
    """T5 of 2 encoder and 3 decoder blocks: the first block of each takes all of one model, the last of the other."""
    one, two = (write_pico(tmp_path / f"m{i}", i, family="t5", **ENCODER_DECODER_CONFIGS["t5"]) for i in (1, 2))
    models = [{"model": str(m), "parameters": {"weight": w}} for m, w in ((one, [1, 0]), (two, [0, 1]))]
    out = load_file(merge({"merge_method": "linear", "models": models}, tmp_path / "out") / "model.safetensors")
    first, second = (load_file(m / "model.safetensors") for m in (one, two))
    query = "layer.0.SelfAttention.q.weight"
    for name, expected in (
        (f"encoder.block.0.{query}", first[f"encoder.block.0.{query}"]),
        (f"encoder.block.1.{query}", second[f"encoder.block.1.{query}"]),
        (f"decoder.block.0.{query}", first[f"decoder.block.0.{query}"]),
        (f"decoder.block.1.{query}", (first[f"decoder.block.1.{query}"] + second[f"decoder.block.1.{query}"]) / 2),
        (f"decoder.block.2.{query}", second[f"decoder.block.2.{query}"]),
        ("shared.weight", first["shared.weight"]),
    ):
        torch.testing.assert_close(out[name], expected, msg=name)


@pytest.mark.parametrize("family", [*CONFIGS, *ENCODER_CONFIGS, *ENCODER_DECODER_CONFIGS, *FAMILIES])
def test_rows_of_the_vocabulary_are_known_by_name(family: str) -> None:
    """The general rule names what transformers says are input and output embeddings."""
    from transformers import AutoConfig

    config = {**FAMILIES["llama"], **{**CONFIGS, **ENCODER_CONFIGS, **ENCODER_DECODER_CONFIGS, **FAMILIES}[family]}
    with torch.device("meta"):
        model = auto_class(family).from_config(AutoConfig.for_model(family, **config))
    model.tie_weights()
    ends = [module for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module is not None]
    wanted = {id(parameter) for module in ends for parameter in module.parameters()}
    names = dict(model.named_parameters(remove_duplicate=False))
    assert {name for name, tensor in names.items() if id(tensor) in wanted} <= {n for n in names if is_vocabulary(n)}
    assert all(tensor.shape[0] == 64 for name, tensor in names.items() if is_vocabulary(name))


def test_an_order_that_the_config_cannot_describe_is_refused(tmp_path: Path) -> None:
    """DeepSeek's first blocks are dense and the others mixtures, by number alone."""
    one = write_pico(tmp_path / "one", 1, family="deepseek_v3", **CONFIGS["deepseek_v3"])
    twice = merge(stack((one, 0, 1), (one, 0, 3)), tmp_path / "twice")
    assert json.loads((twice / "config.json").read_text())["first_k_dense_replace"] == 2
    logits(load(twice, "deepseek_v3"))
    with pytest.raises(InvalidInput, match="cannot describe these blocks in this order: it has no place for"):
        merge(stack((one, 0, 3), (one, 0, 1)), tmp_path / "dense at the end")
    assert not (tmp_path / "dense at the end").exists()


def test_blocks_that_share_their_weights_are_not_stacked(tmp_path: Path) -> None:
    """ALBERT stores a block once and runs through it three times."""
    base, one, two = family_of("albert", tmp_path)
    merged = logits(load(merge(ties(base, one, two), tmp_path / "merged"), "albert"))
    assert not torch.equal(merged, logits(load(base, "albert")))
    with pytest.raises(InvalidInput, match="cannot describe these blocks in this order"):
        merge(stack((one, 0, 1), (two, 0, 1)), tmp_path / "stack")


def test_a_stack_is_held_against_the_model_that_its_config_describes(tmp_path: Path) -> None:
    """Gemma 3n keeps what each of its blocks adds to an embedding side by side in one tensor, whose size is fixed."""
    one = write_pico(tmp_path / "one", 1, family="gemma3n_text", **FURTHER_CONFIGS["gemma3n_text"])
    with pytest.raises(InvalidInput, match=r"embed_tokens_per_layer.weight is .* but the config makes it"):
        merge(stack((one, 0, 2), (one, 0, 4)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["ernie4_5_moe", "gemma4_text", "hunyuan_v1_moe", "nemotron_h"])
def test_entries_of_a_config_by_block_move_with_their_blocks(family: str, tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 1, family=family, **FURTHER_CONFIGS[family])
    depth = Checkpoint(one, "one").layout.num_layers
    deeper = stack((one, 0, depth - 1), (one, 1, depth))
    found = logits(load(merge(deeper, tmp_path / "deeper"), family))
    assert torch.equal(live(deeper)[0], found)


def test_kinds_of_blocks_that_follow_a_rule_move_with_their_blocks(tmp_path: Path) -> None:
    """Every second block of a Gemma 2 attends to a window; config.json of the hub's models leaves it at that."""
    one = write_pico(tmp_path / "one", 1, family="gemma2")
    config = json.loads((one / "config.json").read_text())
    kinds = config.pop("layer_types")
    assert len(set(kinds)) == 2
    (one / "config.json").write_text(json.dumps(config))
    out = merge(stack((one, 1, 3), (one, 1, 3)), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["layer_types"] == [*kinds[1:], *kinds[1:]]
    plain = merge(ties(one, write_pico(tmp_path / "a", 2, family="gemma2"), one), tmp_path / "plain")
    assert "layer_types" not in json.loads((plain / "config.json").read_text())


def test_blocks_behind_the_stack_are_not_counted(tmp_path: Path) -> None:
    """DeepSeek-V3 and GLM-4.5 store a block after the last that predicts a further token."""
    folders = []
    for i in (1, 2):
        folder = write_pico(tmp_path / f"m{i}", i, family="deepseek_v3", **CONFIGS["deepseek_v3"])
        tensors = load_file(folder / "model.safetensors")
        tensors |= {"model.layers.3.enorm.weight": torch.ones(32), "model.layers.3.eh_proj.weight": torch.ones(32, 64)}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(folder)
    models = [{"model": str(folder), "parameters": {"weight": 1}} for folder in folders]
    whole = merge({"merge_method": "linear", "models": models}, tmp_path / "whole")
    cut = merge(stack((folders[0], 0, 2), (folders[1], 1, 3)), tmp_path / "cut")
    for folder, depth, extra in ((whole, 3, 1), (cut, 4, 0)):
        config = json.loads((folder / "config.json").read_text())
        assert (config["num_hidden_layers"], config["num_nextn_predict_layers"]) == (depth, extra)
        assert ("model.layers.3.eh_proj.weight" in load_file(folder / "model.safetensors")) == bool(extra)


def test_positions_are_as_precise_live_as_when_loaded(tmp_path: Path) -> None:
    """A buffer that is computed while the default dtype is bf16 would be rounded."""
    folder = write_pico(tmp_path / "model", 0, family="gptj", dtype="bfloat16", **CONFIGS["gptj"])
    model = live_model({"merge_method": "passthrough", "models": [{"model": str(folder)}]})
    buffers = dict(model.named_buffers())
    for name, buffer in load(folder, "gptj").named_buffers():
        assert torch.equal(buffer, buffers[name]), name


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["model.embed_tokens.weight"], ["model.norm.weight", "lm_head.weight"]),
        (["model.embed_tokens.weight"], ["model.embedding_norm.weight", "lm_head.weight"]),  # LFM2's final norm
        (["model.embeddings.norm.weight"], ["model.final_norm.weight", "head.norm.weight", "decoder.bias"]),
        (["distilbert.embeddings.LayerNorm.weight"], ["vocab_transform.weight", "vocab_projector.bias"]),
        (["rwkv.embeddings.weight"], ["rwkv.ln_out.weight", "head.weight"]),
        (["model.decoder.project_in.weight"], ["model.decoder.project_out.weight"]),
        (["transformer.wte.weight", "transformer.wpe.weight"], ["transformer.ln_f.bias"]),
        (["transformer.word_embeddings_layernorm.weight"], ["transformer.norm_f.weight"]),
        (["bert.embeddings.LayerNorm.bias"], ["cls.predictions.transform.dense.weight", "bert.pooler.dense.weight"]),
    ],
)  # fmt: skip
def test_what_stands_before_and_after_the_blocks(before: list[str], after: list[str]) -> None:
    layout = Layout.of([*(f"model.layers.{i}.a" for i in range(3)), *before, *after])
    assert {name: layout.site(name).part for name in [*before, *after]} == {
        **dict.fromkeys(before, "before"),
        **dict.fromkeys(after, "after"),
    }


def test_the_longest_stack_is_the_one_that_is_cut() -> None:
    names = [f"decoder.block.{i}.{part}" for i in range(3) for part in ("a", "b")]
    layout = Layout.of([*names, *(f"encoder.block.{i}.a" for i in range(2)), "encoder.norm"])
    assert (layout.block_prefix, layout.num_layers, layout.others) == ("decoder.block.", 3, {"encoder.block.": 2})
    assert [layout.depth(f"encoder.block.{i}.a") for i in range(2)] == [0.0, 1.0]
    assert layout.depth("encoder.norm") == layout.depth("shared.weight") == 0.0
