"""Configs of pico models of families that no code was written for; merged with Llama's pico config."""

from typing import Any

from evomerge.testing.pico import FAMILIES

_HEADS = {"head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_DEEPSEEK = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_group": 2,
    "topk_group": 1,
}
_LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_JAMBA = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "cohere2": {},
    "deepseek_v2": {**_DEEPSEEK, "q_lora_rank": None},
    "deepseek_v3": _DEEPSEEK,
    "exaone4": {},
    "gemma": _HEADS,
    "glm4": _HEADS,
    "gpt_oss": {**_LOCAL_EXPERTS, **_HEADS},
    "gptj": {**FAMILIES["gpt2"], "rotary_dim": 4},
    "granite": {},
    "granitemoe": _LOCAL_EXPERTS,
    "jamba": {**_JAMBA, **_EXPERTS, "num_hidden_layers": 4, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 8},
    "llama4_text": {**_LOCAL_EXPERTS, **_HEADS, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 1},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 2},
    "mpt": {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 128},
    "phimoe": _LOCAL_EXPERTS,
    "qwen3_moe": {**_EXPERTS, **_HEADS},
    "qwen3_next": {**_EXPERTS, **_HEADS, **_LINEAR, "num_hidden_layers": 4, "shared_expert_intermediate_size": 16},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}
# Encoders: merged, stacked and loaded, but not scored.
ENCODER_CONFIGS: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2},
    "roberta": {},
}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_hidden_layers": 2, "num_decoder_layers": 3}
ENCODER_DECODER_CONFIGS: dict[str, dict[str, Any]] = {
    "t5": {**_T5, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "decoder_start_token_id": 2,
    },
}
# Families of which only the ways out of a block are tested; those that are not here need nothing beyond Llama's config.
_DENSE_FIRST = {key: _DEEPSEEK[key] for key in ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")}
FURTHER_CONFIGS: dict[str, dict[str, Any]] = {
    "bloom": {"n_layer": 3, "n_head": 4},
    "codegen": {**FAMILIES["gpt2"], "rotary_dim": 4},
    "dots1": {**_DENSE_FIRST, "first_k_dense_replace": 1, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    "glm": _HEADS,
    "glm4_moe": {**_DENSE_FIRST, **_HEADS, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "gpt_bigcode": FAMILIES["gpt2"],
    "gpt_neo": {"num_layers": 2, "num_hidden_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "helium": _HEADS,
    "hunyuan_v1_dense": _HEADS,
    "olmoe": _EXPERTS,
}
