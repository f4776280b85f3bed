"""Which models can share contexts between questions.

Sharing needs a model that takes a four-dimensional mask and explicit positions as they are, and a cache of keys and
values that can be passed in. Most do; some quietly ignore one of the three. A family is listed here after
`tests/evaluation/score/test_sharing.py` has found that it gives the same log-likelihoods; every other one gets plain
rows, which is slower and never wrong.
"""

import inspect
from typing import TYPE_CHECKING

from evomerge.evaluation.score._batching import ContextSharing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARING_FAMILIES = frozenset(
    [
        "apertus",
        "arcee",
        "codegen",
        "cohere",
        "cohere2",
        "ernie4_5",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gptj",
        "granite",
        "helium",
        "hunyuan_v1_dense",
        "llama",
        "ministral",
        "mistral",
        "mixtral",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    ]
)
_NEEDED_ARGUMENTS = ("attention_mask", "position_ids", "past_key_values")
_MASKABLE_ATTENTION = ("sdpa", "eager")  # flash attention knows no masks of one's own
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")  # rotary angles that follow the longest row of a batch


def sharing_of(model: "PreTrainedModel") -> ContextSharing:
    """Return what a model can share."""
    config = getattr(model, "config", None)
    known = inspect.signature(model.forward).parameters
    if (
        getattr(config, "model_type", None) not in SHARING_FAMILIES
        or getattr(config, "_attn_implementation", None) not in _MASKABLE_ATTENTION
        or _rope_types(config) & set(_LENGTH_DEPENDENT_ROPE)
        or any(name not in known for name in _NEEDED_ARGUMENTS)
    ):
        return ContextSharing()
    return ContextSharing(possible=True, window=_window(config))


def _rope_types(config: object) -> set[str]:
    """Return the kinds of rotary embedding in use; a config may have one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    return {str(kind.get("rope_type")) for kind in [rope, *rope.values()] if isinstance(kind, dict)}


def _window(config: object) -> int | None:
    """Return the number of tokens that the model's shortest attention window holds, or None."""
    for name in ("sliding_window", "attention_chunk_size"):
        size = getattr(config, name, None)
        if isinstance(size, int) and size > 0:
            return size
    return None
