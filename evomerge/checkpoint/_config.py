"""The config of a merged model, taken from its config source and made true for its blocks."""

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from evomerge.checkpoint._json import read_json_object
from evomerge.checkpoint._model import DEPTH_KEYS, Model
from evomerge.checkpoint.family import config_object
from evomerge.errors import InvalidInput, MergeFailed, first_line

GENERATION_CONFIG = "generation_config.json"

_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Lists of the numbers of some blocks, not one entry a block.
_LAYER_NUMBER_KEYS = ("mlp_only_layers", "moe_layers", "cross_attention_layers", "full_attn_idxs", "attn_layer_indices")
_LEADING_KEYS = ("first_k_dense_replace",)  # how many of the first blocks are of another kind
_ENDING_KEYS = ("moe_layer_end_index",)  # the number of the last block of a kind that reaches to the end
_RULE_KEYS = ("layer_types", "no_rope_layers")  # lists that a config may leave to a rule by the block's number
EXTRA_KEY = "num_nextn_predict_layers"  # blocks after the stack that predict further tokens (DeepSeek-V3, GLM-4.5)


def merged_config(source: Model, layers: Sequence[tuple[Model, int]], dtype: torch.dtype) -> dict[str, Any]:
    """Return the config of a model of these blocks.

    Args:
        source: whose config it is, but for what follows from the blocks.
        layers: for each block of the result, a model and the number of the block there that it corresponds to.
        dtype: of the weights.
    """
    config = deepcopy(source.config)
    config.pop("auto_map", None)  # it names code, which is never copied
    text = config.get("text_config", config)
    stack = [(model, index) for model, index in layers if index < _stated_depth(model)]
    _set_depth(text, source, stack, len(layers))
    if [index for _, index in stack] == list(range(_stated_depth(source))):
        stated = {id(model): model.text_config for model, _ in stack}
    else:
        text.update(_implied_lists(source))
        stated = {id(model): {**_implied_lists(model), **model.text_config} for model, _ in stack}
    for key, value in list(text.items()):
        if key == "architectures" or not stack:
            continue
        own = [(index, model, stated[id(model)].get(key, value)) for model, index in stack]
        if key in _LAYER_NUMBER_KEYS and isinstance(value, list):
            _check_kind(key, own, list)
            text[key] = [i for i, (index, _, numbers) in enumerate(own) if index in numbers]
        elif key in _LEADING_KEYS and isinstance(value, int):
            _check_kind(key, own, int)
            text[key] = sum(index < count for index, _, count in own)
        elif key in _ENDING_KEYS and value == _stated_depth(source) - 1:
            text[key] = len(stack) - 1
        elif isinstance(value, list) and value and "token" not in key and len(value) == _stated_depth(source):
            # One entry a block, such as layer_types: each block brings its own along.
            _check_kind(key, own, list)
            text[key] = [entries[index] for index, _, entries in own]
        elif isinstance(value, dict) and value and all(str(number).isdigit() for number in value):
            # Entries of some blocks by their numbers, such as Gemma 4's per_layer_config.
            _check_kind(key, own, dict)
            text[key] = {str(i): entries[str(j)] for i, (j, _, entries) in enumerate(own) if str(j) in entries}
    name = str(dtype).removeprefix("torch.")
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = name
    return config


def _check_kind(key: str, own: Sequence[tuple[int, Model, Any]], kind: type) -> None:
    """Raise MergeFailed unless all models state a value of one kind, and lists with an entry for each block.

    Args:
        key: of the config.
        own: for each block of the result, its number in its model, the model and the value that its config states.
        kind: that the value of the config source has.
    """
    for index, model, value in own:
        if not isinstance(value, kind):
            raise MergeFailed(
                f"{model.folder / 'config.json'}: {key}: found {type(value).__name__}, expected {kind.__name__} as in "
                "the model that gives the config"
            )
        if isinstance(value, list) and key not in _LAYER_NUMBER_KEYS and index >= len(value):
            raise MergeFailed(
                f"{model.folder / 'config.json'}: {key}: found {len(value)} entries, expected one for each block"
            )


def _set_depth(text: dict[str, Any], source: Model, stack: Sequence[tuple[Model, int]], blocks: int) -> None:
    depth = _stated_depth(source)
    for key in DEPTH_KEYS:
        if text.get(key) == depth:  # an encoder's depth is another number
            text[key] = len(stack)
    if EXTRA_KEY in text and source.layout.num_layers > depth:
        text[EXTRA_KEY] = blocks - len(stack)


def _stated_depth(model: Model) -> int:
    """Return the number of blocks that the config states: the files may hold more after them, for other uses."""
    stored = model.layout.num_layers
    extra = model.text_config.get(EXTRA_KEY) or 0
    stated = next((model.text_config[key] for key in DEPTH_KEYS if model.text_config.get(key) is not None), stored)
    return int(stated) if stored - extra <= stated < stored else stored


def _implied_lists(model: Model) -> dict[str, list[Any]]:
    """Return the lists with one entry a block that config.json leaves to its family's rule, such as "every second"."""
    try:
        described = config_object(model.config).get_text_config().to_dict()
    except MergeFailed:
        return {}
    return {key: described[key] for key in _RULE_KEYS if isinstance(described.get(key), list)}


def generation_settings(config: Mapping[str, Any], folder: Path) -> Any:
    """Return transformers' object for how a model generates: what `from_pretrained` reads beside this config.

    Args:
        config: content of config.json, which older models keep these settings in.
        folder: which holds generation_config.json, or does not.

    Raises:
        InvalidInput: the file is damaged, or its settings make no sense to transformers.
    """
    from transformers import GenerationConfig

    file = folder / GENERATION_CONFIG
    if file.exists():
        read_json_object(file)  # transformers would go on without it, and not say so
    with TemporaryDirectory(prefix="evomerge-config-") as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if file.exists():
            shutil.copyfile(file, Path(scratch) / GENERATION_CONFIG)
        try:
            try:
                return GenerationConfig.from_pretrained(scratch)
            except OSError:  # no such file: transformers goes on with what the config says
                return GenerationConfig.from_pretrained(
                    scratch, config_file_name="config.json", _from_model_config=True
                )
        except Exception as error:  # whatever a value of the wrong kind leads to
            raise InvalidInput(f"{file}: transformers cannot read these settings ({first_line(error)})") from None


def set_vocabulary(config: dict[str, Any], rows: int, source: Mapping[str, Any]) -> None:
    """Change a config for another vocabulary.

    Args:
        config: is changed in place.
        rows: of the embedding.
        source: config whose special tokens are taken.
    """
    text = config.get("text_config", config)
    text["vocab_size"] = rows
    inner = source.get("text_config", source)
    for key in _SPECIAL_TOKENS:
        token = inner.get(key, source.get(key))
        for part in (config, text):
            if key in part or (part is text and token is not None):
                part[key] = token


def untie(config: dict[str, Any]) -> None:
    """State in a config that the output head has weights of its own.

    Args:
        config: is changed in place.
    """
    config["tie_word_embeddings"] = False
    if "tie_word_embeddings" in config.get("text_config", {}):
        config["text_config"]["tie_word_embeddings"] = False
