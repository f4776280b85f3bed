"""Pico models: real transformers checkpoints of a few thousand parameters, made on the spot from a seed."""

from pathlib import Path
from typing import Any

VOCABULARY = 64  # tokens
WEIGHT_SCALE = 0.1  # standard deviation of what is added to fresh weights
TASK_SCALE = 0.02  # the same for a fine-tune's task vector

_COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_LLAMA_LIKE = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
_NO_GROUPS = {key: value for key, value in _LLAMA_LIKE.items() if key != "num_key_value_heads"}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": {**_LLAMA_LIKE, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": _LLAMA_LIKE,
    "qwen2_moe": {
        **_LLAMA_LIKE,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
    },
    "qwen3": {**_LLAMA_LIKE, "head_dim": 8},
    "gemma2": {**_LLAMA_LIKE, "head_dim": 8},
    "gemma3_text": {**_LLAMA_LIKE, "head_dim": 8},
    "phi3": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "gpt_neox": _NO_GROUPS,
    "falcon": {**_COMMON, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "bert": _NO_GROUPS,
    "gpt2": {**_COMMON, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "opt": {
        **_COMMON,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    },
}
ENCODERS = {"albert", "bert", "distilbert", "electra", "modernbert", "roberta"}
ENCODER_DECODERS = {"bart", "t5"}


def write_pico(
    folder: Path, seed: int, *, family: str = "llama", near: Path | None = None, dtype: str = "float32", **config: Any
) -> Path:
    """Write a random pico model with a character tokenizer.

    Args:
        folder: where to write it.
        seed: of the weights, or of the task vector.
        family: a model type of transformers; one that is not in `FAMILIES` gets Llama's config values.
        near: a pico model to start from; a small random task vector is added, as a fine-tune would.
        dtype: of the weights on disk.
        **config: overrides of the family's config values.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    generator = torch.Generator().manual_seed(seed)
    common = {} if "text_config" in config else FAMILIES.get(family, _LLAMA_LIKE)
    settings = AutoConfig.for_model(family, **{**common, **config})
    kind = auto_class(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(settings, dtype=torch.float32)
    if near is not None:
        model.load_state_dict(kind.from_pretrained(near, dtype=torch.float32).state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            scale = TASK_SCALE if near is not None else WEIGHT_SCALE
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def auto_class(family: str) -> Any:
    """Return the auto class of transformers that loads a family."""
    import transformers

    if family in ENCODERS:
        return transformers.AutoModelForMaskedLM
    if family in ENCODER_DECODERS:
        return transformers.AutoModelForSeq2SeqLM
    config = type(transformers.AutoConfig.for_model(family))
    seeing = transformers.AutoModelForImageTextToText
    return seeing if config in seeing._model_mapping else transformers.AutoModelForCausalLM


def character_tokenizer() -> Any:
    """Return a tokenizer with one token for each printable ASCII character that fits the pico vocabulary."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *" 0123456789+-=?.,:;abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"]
    vocabulary = {word: number for number, word in enumerate(words[:VOCABULARY])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
