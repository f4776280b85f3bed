"""The config and tokenizer files of a merged model, taken from its donor."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint._model import Model

_LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_LAYER_NUMBERS = ("mlp_only_layers",)  # lists of the numbers of some blocks, not one entry a block


def merged_config(donor: Model, layers: Sequence[tuple[Model, int]], dtype: torch.dtype) -> dict[str, Any]:
    """Return the donor's config for a model of these blocks.

    Args:
        layers: for each block of the result, a model and the number of the block there that it stands for.
        dtype: of the weights.
    """
    config = deepcopy(donor.config)
    config.pop("auto_map", None)  # it names code, which is never copied
    text = config.get("text_config", config)
    old = donor.layout.num_layers
    for key in _LAYER_KEYS:
        if key in text:
            text[key] = len(layers)
    for key, value in list(text.items()):
        if key in _LAYER_NUMBERS and isinstance(value, list):
            text[key] = [i for i, (model, index) in enumerate(layers) if index in model.text_config.get(key, value)]
        elif isinstance(value, list) and old and len(value) == old and key != "architectures":
            # One entry a block, such as layer_types: each block brings its own along.
            text[key] = [model.text_config.get(key, value)[index] for model, index in layers]
    name = str(dtype).removeprefix("torch.")
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = name
    return config


def set_vocabulary(config: dict[str, Any], rows: int, source: Mapping[str, Any]) -> None:
    """Change a config for another vocabulary: its number of rows, and the special tokens as the `source` config has."""
    text = config.get("text_config", config)
    text["vocab_size"] = rows
    inner = source.get("text_config", source)
    for key in _SPECIAL_TOKENS:
        stated = inner.get(key, source.get(key))
        for place in (config, text):
            if key in place or (place is text and stated is not None):
                place[key] = stated


def untie(config: dict[str, Any]) -> None:
    """State that the output head has weights of its own."""
    config["tie_word_embeddings"] = False
    if "tie_word_embeddings" in config.get("text_config", {}):
        config["text_config"]["tie_word_embeddings"] = False


def copy_tokenizer(donor: Model, out: Path) -> None:
    """Write a model's tokenizer and generation settings into another folder."""
    donor.tokenizer.write(out)
