"""Configs of pico models of families that no code was written for; language models add to Llama's pico config."""

from typing import Any

from evomerge.testing.pico import FAMILIES, VOCABULARY

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
    "albert": {"embedding_size": 16},
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

FURTHER_CONFIGS |= {
    "apertus": {},
    "arcee": {},
    "bitnet": {},
    "cohere": {},
    "diffllama": {},
    "ernie4_5": {},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
    "exaone4": {},
    "gemma3n_text": {
        **_HEADS,
        "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 1,
        "activation_sparsity_pattern": None,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gemma4_text": {**_HEADS, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": VOCABULARY},
    "hunyuan_v1_moe": {**_HEADS, "num_experts": 4, "moe_topk": 2},
    "nemotron": {},
    "nemotron_h": {
        **_HEADS,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "attention", "mamba", "moe"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
    "olmo": {},
    "olmo3": {},
    "persimmon": {},
    "phi": {},
    "seed_oss": _HEADS,
}

# Vision-language models: each with a language model of the size of Llama's pico config and a tower of four blocks.
_LANGUAGE: dict[str, Any] = {**FAMILIES["llama"], **_HEADS}
_TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_QWEN_TOWER: dict[str, Any] = {
    "depth": 4,
    "hidden_size": 16,
    "embed_dim": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [0, 1],
    "num_position_embeddings": 16,
    "in_channels": 3,
}
_SECTIONED: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_QWEN_TOKENS = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
_QWEN_NEXT = {**_LINEAR, "num_hidden_layers": 4, "rope_parameters": {**_SECTIONED, "partial_rotary_factor": 1.0}}


def _qwen(language: dict[str, Any] | None = None, **tower: Any) -> dict[str, Any]:
    text = {**_LANGUAGE, "rope_parameters": _SECTIONED, **(language or {})}
    return {"text_config": text, "vision_config": {**_QWEN_TOWER, **tower}, **_QWEN_TOKENS}


def _wrapped(language: str, tower: str, **rest: Any) -> dict[str, Any]:
    text = {**_LANGUAGE, "model_type": language}
    return {"text_config": text, "vision_config": {**_TOWER, "model_type": tower}, "image_token_index": 60, **rest}


VISION_CONFIGS: dict[str, dict[str, Any]] = {
    "aya_vision": _wrapped("cohere2", "siglip_vision_model"),
    "gemma3": {
        "text_config": _LANGUAGE,
        "vision_config": _TOWER,
        "mm_tokens_per_image": 4,
        "image_token_index": 60,
        "boi_token_index": 61,
        "eoi_token_index": 62,
    },
    "gemma4": {
        "text_config": {**_LANGUAGE, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": VOCABULARY},
        "vision_config": _TOWER,
    },
    "idefics3": {
        "text_config": {**_LANGUAGE, "model_type": "llama"},
        "vision_config": _TOWER,
        "image_token_id": 60,
        "scale_factor": 2,
    },
    "internvl": {
        "text_config": {**_LANGUAGE, "model_type": "qwen2"},
        "vision_config": {**_TOWER, "model_type": "internvl_vision", "image_size": [8, 8], "patch_size": [4, 4]},
        "image_token_id": 60,
    },
    "llama4": {
        "text_config": {**_LANGUAGE, **CONFIGS["llama4_text"], "num_experts_per_tok": 1},
        "vision_config": {**_TOWER, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
        "image_token_index": 60,
        "boi_token_index": 61,
        "eoi_token_index": 62,
    },
    "llava": _wrapped("llama", "clip_vision_model"),
    "llava_next": _wrapped("mistral", "clip_vision_model", image_grid_pinpoints=[[8, 8]]),
    "llava_onevision": _wrapped("qwen2", "siglip_vision_model", image_grid_pinpoints=[[8, 8]], video_token_index=61),
    "mistral3": {
        "text_config": {**_LANGUAGE, "model_type": "mistral"},
        "vision_config": {**_TOWER, **_HEADS, "model_type": "pixtral"},
        "image_token_index": 60,
    },
    "paligemma": {
        "text_config": {**_LANGUAGE, "model_type": "gemma"},
        "vision_config": {**_TOWER, "model_type": "siglip_vision_model", "projection_dim": 32},
        "image_token_index": 60,
        "projection_dim": 32,
    },
    "qwen2_5_vl": _qwen(),
    "qwen2_vl": _qwen(hidden_size=32),
    "qwen3_5": _qwen(_QWEN_NEXT),
    "qwen3_5_moe": _qwen({**_QWEN_NEXT, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_vl": _qwen(),
    "qwen3_vl_moe": _qwen({**_EXPERTS, "decoder_sparse_step": 1}),
    "smolvlm": {
        "text_config": {**_LANGUAGE, "model_type": "llama"},
        "vision_config": _TOWER,
        "image_token_id": 60,
        "scale_factor": 2,
    },
}
