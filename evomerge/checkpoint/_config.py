"""The config and tokenizer files of a merged model, taken from its donor."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint._folder import Checkpoint

_LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)


def merged_config(donor: Checkpoint, layers: Sequence[tuple[Checkpoint, int]], dtype: torch.dtype) -> dict[str, Any]:
    """Return the donor's config for a model of these blocks.

    Args:
        layers: for each block of the result, a model and the number of the block there that it stands for.
        dtype: of the weights.
    """
    config = dict(donor.config)
    text = config
    if "text_config" in config:
        text = config["text_config"] = dict(config["text_config"])
    old = donor.layout.num_layers
    for key in _LAYER_KEYS:
        if key in text:
            text[key] = len(layers)
    for key, value in list(text.items()):
        if isinstance(value, list) and old and len(value) == old and key != "architectures":
            # One entry a block, such as layer_types: each block brings its own along.
            text[key] = [
                model.config.get("text_config", model.config).get(key, value)[index] for model, index in layers
            ]
    name = str(dtype).removeprefix("torch.")
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = name
    return config


def copy_tokenizer(donor: Checkpoint, out: Path) -> None:
    """Copy the tokenizer and generation settings of a model."""
    for file in (*TOKENIZER_FILES, "generation_config.json"):
        source = donor.folder / file
        if source.exists():
            shutil.copyfile(source, out / file)
