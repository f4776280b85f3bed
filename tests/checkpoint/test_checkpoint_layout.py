"""Which tensor belongs to which block, for the names of many families."""

import pytest

from evomerge.checkpoint import Layout, is_block_output, module_names

LLAMA = ["self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight"]
# family -> (prefix, suffixes of a block, before the blocks, after the blocks, (attention, mlp), outputs)
FAMILIES = {
    "llama": (
        "model.layers.",
        LLAMA,
        ["model.embed_tokens.weight"],
        ["model.norm.weight", "lm_head.weight"],
        ("self_attn.", "mlp."),
        ["self_attn.o_proj.weight", "mlp.down_proj.weight"],
    ),
    "gpt2": (
        "transformer.h.",
        ["attn.c_attn.weight", "attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "ln_1.weight"],
        ["transformer.wte.weight", "transformer.wpe.weight"],
        ["transformer.ln_f.weight", "transformer.ln_f.bias"],
        ("attn.", "mlp."),
        ["attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight"],
    ),
    "gpt_neox": (
        "gpt_neox.layers.",
        ["attention.query_key_value.weight", "attention.dense.weight", "mlp.dense_4h_to_h.bias"],
        ["gpt_neox.embed_in.weight"],
        ["gpt_neox.final_layer_norm.weight", "embed_out.weight"],
        ("attention.", "mlp."),
        ["attention.dense.weight", "mlp.dense_4h_to_h.bias"],
    ),
    "opt": (
        "model.decoder.layers.",
        ["self_attn.k_proj.weight", "self_attn.out_proj.bias", "fc1.weight", "fc2.weight", "final_layer_norm.weight"],
        ["model.decoder.embed_tokens.weight", "model.decoder.embed_positions.weight"],
        ["model.decoder.final_layer_norm.weight", "lm_head.weight"],
        ("self_attn.", "fc"),
        ["self_attn.out_proj.bias", "fc2.weight"],
    ),
    "falcon": (
        "transformer.h.",
        ["self_attention.query_key_value.weight", "self_attention.dense.weight", "mlp.dense_4h_to_h.weight"],
        ["transformer.word_embeddings.weight"],
        ["transformer.ln_f.weight", "lm_head.weight"],
        ("self_attention.", "mlp."),
        ["self_attention.dense.weight", "mlp.dense_4h_to_h.weight"],
    ),
    "mixtral": (
        "model.layers.",
        [*LLAMA[:2], "block_sparse_moe.gate.weight"]
        + [f"block_sparse_moe.experts.{i}.{w}.weight" for i in range(8) for w in ("w1", "w2")],
        ["model.embed_tokens.weight"],
        ["model.norm.weight", "lm_head.weight"],
        ("self_attn.", "block_sparse_moe."),
        ["self_attn.o_proj.weight", "block_sparse_moe.experts.7.w2.weight"],
    ),
    "phi": (
        "model.layers.",
        ["self_attn.dense.weight", "self_attn.dense.bias", "mlp.fc1.weight", "mlp.fc2.weight"],
        ["model.embed_tokens.weight"],
        ["model.final_layernorm.weight", "lm_head.weight", "lm_head.bias"],
        ("self_attn.", "mlp."),
        ["self_attn.dense.weight", "self_attn.dense.bias", "mlp.fc2.weight"],
    ),
    "bert": (
        "bert.encoder.layer.",
        ["attention.self.query.weight", "attention.output.dense.weight", "output.dense.weight"],
        ["bert.embeddings.word_embeddings.weight"],
        ["bert.pooler.dense.weight", "cls.predictions.bias"],
        ("attention.", None),
        [],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [2, 12])
def test_the_general_rule_finds_the_blocks(family: str, depth: int) -> None:
    prefix, suffixes, before, after, (attention, mlp), outputs = FAMILIES[family]
    names = [*before, *(f"{prefix}{layer}.{suffix}" for layer in range(depth) for suffix in suffixes), *after]
    layout = Layout.of(reversed(names))
    assert (layout.block_prefix, layout.num_layers) == (prefix, depth)
    for name in before:
        assert layout.site(name).part == "before", name
    for name in after:
        assert layout.site(name).part == "after", name
    for layer in range(depth):
        for suffix in suffixes:
            name = f"{prefix}{layer}.{suffix}"
            assert layout.site(name) == ("block", layer, suffix)
            assert layout.name(layer, suffix) == name
    found = module_names(suffixes)
    assert found[0] == attention
    assert mlp is None or found[1] == mlp
    for suffix in outputs:
        assert is_block_output(suffix, family), suffix
    if family != "bert":
        assert not any(is_block_output(each, family) for each in suffixes if "norm" in each or "ln_" in each)


def test_a_norm_inside_a_block_is_not_outside() -> None:
    """OPT calls a norm of its blocks like the one after them."""
    layout = Layout.of(["model.decoder.layers.0.final_layer_norm.weight", "model.decoder.layers.1.fc1.weight"])
    assert layout.site("model.decoder.layers.0.final_layer_norm.weight").part == "block"


def test_without_blocks_everything_is_outside() -> None:
    layout = Layout.of(["weight", "bias", "lm_head.weight"])
    assert (layout.block_prefix, layout.num_layers) == ("", 0)
    assert layout.site("weight").part == "before"
    assert layout.site("lm_head.weight").part == "after"


def test_names_without_a_prefix_before_the_number() -> None:
    layout = Layout.of(["0.attn.weight", "0.mlp.weight", "10.attn.weight", "embed.weight"])
    assert (layout.block_prefix, layout.num_layers) == ("", 11)
    assert layout.site("10.attn.weight") == ("block", 10, "attn.weight")
    assert layout.site("embed.weight").part == "before"
