"""Models of transformers without weights: to be filled, or to be asked which tensors they have."""

from collections.abc import Mapping
from typing import Any

import torch

from evomerge.checkpoint import config_object
from evomerge.errors import MergeFailed


def empty_model(config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """Return the causal language model of a config; its parameters are on the meta device, its buffers are real.

    Raises:
        MergeFailed: the config describes no causal language model.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    described = config_object(config)
    if type(described) not in AutoModelForCausalLM._model_mapping or getattr(described, "is_encoder_decoder", False):
        raise MergeFailed(
            f"a {_family(config)} is no causal language model, so it cannot be scored; merging to a folder works"
        )
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(described, dtype=dtype)
    for module in model.modules():
        if module._non_persistent_buffers_set:
            model._init_weights(module)  # positions in full precision, as when a model is loaded from its files
    return model


def shape_of(config: Mapping[str, Any]) -> Any:
    """Return the model of a config and its `architectures` on the meta device.

    Raises:
        MergeFailed: transformers cannot build it.
    """
    import transformers

    architecture = next(iter(config.get("architectures") or []), "")
    described = config_object(config)
    known = getattr(transformers, architecture, None)
    try:
        with torch.device("meta"):
            return known(described) if known else transformers.AutoModelForCausalLM.from_config(described)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MergeFailed(f"transformers cannot build a {architecture or _family(config)} ({error})") from None


def _family(config: Mapping[str, Any]) -> str:
    return str(config.get("model_type", "model"))
