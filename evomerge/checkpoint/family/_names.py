"""The role of a tensor by its name, where the general rule of `Layout` is not enough: small tables."""

import re
from collections.abc import Iterable

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$"
    r"|^(model\.)?shared\.weight$|^(\w+\.)?embeddings\.weight$"  # encoder-decoders; Mamba, RWKV
)
_HEADS = r"(lm_head(\.decoder)?|embed_out|output|head|decoder|generator_lm_head|vocab_projector)"
_HEAD = re.compile(rf"^(language_model\.)?{_HEADS}\.weight$|(^|\.)(cls\.)?predictions\.decoder\.weight$")
_HEAD_BIAS = re.compile(
    rf"^(language_model\.)?{_HEADS}\.bias$|(^|\.)(cls\.)?predictions\.(decoder\.)?bias$|^mlm_head\.bias$"
)

# Families whose head is the embedding unless their config says otherwise.
TIED_FAMILIES = {
    *("bart", "bert", "bloom", "cohere", "cohere2", "distilbert", "electra", "ernie4_5", "falcon", "gemma"),
    *("gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "lfm2", "mamba", "modernbert"),
    *("mpt", "opt", "roberta", "smollm3", "starcoder2", "t5"),
}

# Buffers that old versions of transformers stored beside the weights; every version computes them itself.
_OLD_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb\.inv_freq|rotary_pos_emb\.inv_freq|attn\.masked_bias|attention\.masked_bias"
    r"|embeddings\.position_ids|embeddings\.token_type_ids)$"
)
_CAUSAL_MASK = re.compile(r"(^|\.)(attn|attention|attn\.attention)\.bias$")
_MASKED_FAMILIES = {"gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen"}


def is_vocabulary(name: str) -> bool:
    """Tell whether the rows of a tensor belong to the tokens of the vocabulary."""
    return any(pattern.search(name) for pattern in (_EMBEDDING, _HEAD, _HEAD_BIAS))


def is_head(name: str) -> bool:
    """Tell whether a tensor is the matrix from hidden states to logits."""
    return _HEAD.search(name) is not None


def is_tied_copy(name: str) -> bool:
    """Tell whether a tied model holds this only as a second copy of something else."""
    return is_head(name) or tied_original(name) != name


def embedding_name(names: Iterable[str]) -> str | None:
    """Return the name of the token embedding, or None."""
    return next((name for name in names if _EMBEDDING.search(name)), None)


def tied_original(name: str) -> str:
    """Return the tensor that this one is a second copy of in a tied model, or the name itself.

    Some families store the bias of the head twice.
    """
    return name.replace("cls.predictions.decoder.bias", "cls.predictions.bias").replace(
        "lm_head.decoder.bias", "lm_head.bias"
    )


def is_optional(name: str) -> bool:
    """Tell whether some models of one family have this tensor and others do not: biases."""
    return name.endswith(".bias")


def is_old_buffer(name: str, model_type: str) -> bool:
    """Tell whether a stored tensor is a buffer that no model reads any more.

    Args:
        name: of the tensor.
        model_type: the family, as config.json names it.
    """
    if model_type in _MASKED_FAMILIES and _CAUSAL_MASK.search(name):
        return True
    return _OLD_BUFFERS.search(name) is not None
