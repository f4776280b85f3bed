"""The config and tokenizer files of a merged model, taken from its donor."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from evomerge.checkpoint._model import Model
from evomerge.errors import MergeFailed

_LAYER_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Lists of the numbers of some blocks, not one entry a block.
_LAYER_NUMBERS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices")
_LEADING = ("first_k_dense_replace",)  # how many of the first blocks are of another kind
_BY_RULE = ("layer_types", "no_rope_layers")  # lists that a config may leave to a rule by the block's number
_EXTRA = "num_nextn_predict_layers"  # blocks behind the stack that predict further tokens (DeepSeek-V3, GLM-4.5)


def merged_config(donor: Model, layers: Sequence[tuple[Model, int]], dtype: torch.dtype) -> dict[str, Any]:
    """Return the donor's config for a model of these blocks.

    Args:
        layers: for each block of the result, a model and the number of the block there that it stands for.
        dtype: of the weights.
    """
    config = deepcopy(donor.config)
    config.pop("auto_map", None)  # it names code, which is never copied
    text = config.get("text_config", config)
    stack = [(model, index) for model, index in layers if index < _stated_depth(model)]
    _set_depth(text, donor, stack, len(layers))
    if [index for _, index in stack] == list(range(_stated_depth(donor))):
        said = {id(model): model.text_config for model, _ in stack}
    else:
        text.update(_unsaid(donor))
        said = {id(model): {**_unsaid(model), **model.text_config} for model, _ in stack}
    for key, value in list(text.items()):
        if key in _LAYER_NUMBERS and isinstance(value, list):
            text[key] = [i for i, (model, index) in enumerate(stack) if index in said[id(model)].get(key, value)]
        elif key in _LEADING and isinstance(value, int):
            text[key] = sum(index < said[id(model)].get(key, value) for model, index in stack)
        elif isinstance(value, list) and value and len(value) == _stated_depth(donor) and key != "architectures":
            # One entry a block, such as layer_types: each block brings its own along.
            text[key] = [said[id(model)].get(key, value)[index] for model, index in stack]
    name = str(dtype).removeprefix("torch.")
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = name
    return config


def _set_depth(text: dict[str, Any], donor: Model, stack: Sequence[tuple[Model, int]], blocks: int) -> None:
    depth = _stated_depth(donor)
    for key in _LAYER_KEYS:
        if text.get(key) == depth:  # an encoder's depth is another number
            text[key] = len(stack)
    if _EXTRA in text and donor.layout.num_layers > depth:
        text[_EXTRA] = blocks - len(stack)


def _stated_depth(model: Model) -> int:
    """Return the number of blocks that the config speaks of: the files may hold more behind them, for other uses."""
    stored = model.layout.num_layers
    extra = model.text_config.get(_EXTRA) or 0
    stated = next((model.text_config[key] for key in _LAYER_KEYS if key in model.text_config), stored)
    return int(stated) if stored - extra <= stated < stored else stored


def _unsaid(model: Model) -> dict[str, list[Any]]:
    """Return the lists with one entry a block that config.json leaves to its family's rule, such as "every second"."""
    try:
        described = config_object(model.config).get_text_config().to_dict()
    except MergeFailed:
        return {}
    return {key: described[key] for key in _BY_RULE if isinstance(described.get(key), list)}


def config_object(config: Mapping[str, Any]) -> Any:
    """Return transformers' object for what config.json says; it reads some values only from a file.

    Raises:
        MergeFailed: transformers does not know the family, or the values make no sense to it.
    """
    from transformers import AutoConfig

    with TemporaryDirectory(prefix="evomerge-config-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        try:
            return AutoConfig.from_pretrained(folder)
        except Exception as error:  # each family's config class raises what it likes
            family = config.get("model_type")
            raise MergeFailed(f"transformers makes nothing of this config of a {family} ({error})") from None


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
