"""The parts of a model of several: its language model, which blocks are layers, and the towers beside it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn

from evomerge.checkpoint.family._model_class import meta_model
from evomerge.checkpoint.family._parameter_map import ParameterMap
from evomerge.errors import MergeFailed
from evomerge.recipe import TEXT_MODULE

_NO_PARTS = ("quantization_config", "compression_config")
_FURTHER = re.compile(r"^(mtp|model\.mtp)\.")  # blocks that predict further tokens belong to the language model


class ModelParts(NamedTuple):
    """The parts of a model whose language model is one of several.

    Attributes:
        block_prefix: what comes before a block's number in the language model's stored tensors.
        tied: whether the language model's head is its embedding.
        part_of: stored name -> the part that it belongs to; the language model is TEXT_MODULE.
    """

    block_prefix: str
    tied: bool
    part_of: Mapping[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any], stored: Iterable[str]) -> "ModelParts":
        """Find the parts by the object that transformers makes of a config.

        Args:
            config: content of config.json.
            stored: names of all tensors.

        Raises:
            MergeFailed: transformers cannot build the model, or it has no stack of language blocks.
        """
        paths = _cached_paths(json.dumps(config, sort_keys=True))
        stored = list(stored)
        names = paths.parameters.names(stored)
        prefixes: Counter[str] = Counter()
        for name, parameter in names.items():
            if parameter.startswith(f"{paths.blocks}."):
                number = parameter[len(paths.blocks) + 1 :].partition(".")[0]
                match = re.match(rf"^(.*?\.)?{number}\.", name)
                prefixes.update([match[1] or ""] if match else [])
        prefix = prefixes.most_common(1)[0][0] if prefixes else ""
        return cls(prefix, paths.tied, {name: _part(names.get(name), paths, name) for name in stored})


class _Paths(NamedTuple):
    """Where the language model is in the object that transformers makes of a config.

    Attributes:
        language: how the names of its tensors begin: its trunk and its output head.
        blocks: path of the list of its blocks.
        base: what most names begin with.
        tied: whether the head is the embedding.
        parameters: of the object.
    """

    language: tuple[str, ...]
    blocks: str
    base: str
    tied: bool
    parameters: ParameterMap


@lru_cache(maxsize=8)
def _cached_paths(config: str) -> _Paths:
    stated = json.loads(config)
    model: Any = meta_model(stated)
    trunk, blocks = _language_model(model, str(stated.get("model_type", "model")))
    model.tie_weights()
    embedding, output = _ends(model)
    head = next((name for name, module in model.named_modules() if module is output), trunk)
    tied = output is not None and getattr(embedding, "weight", None) is getattr(output, "weight", None)
    base = f"{getattr(model, 'base_model_prefix', '')}."
    return _Paths((f"{trunk}." if trunk else "", f"{head}."), blocks, base, tied, ParameterMap(model))


def has_parts(config: Mapping[str, Any]) -> bool:
    """Tell whether a config describes a model of several parts, each with a config of its own.

    Args:
        config: content of config.json.
    """
    return any(
        key.endswith("_config")
        and isinstance(value, dict)
        and key not in _NO_PARTS
        and ("model_type" in value or key in ("text_config", "vision_config", "audio_config"))
        for key, value in config.items()
    )


def _ends(model: Any) -> tuple[nn.Module | None, nn.Module | None]:
    """Return the token embedding and the output head, None for what the model does not have."""
    try:
        return model.get_input_embeddings(), model.get_output_embeddings()
    except (NotImplementedError, AttributeError):  # CLIP has an embedding, but names none
        return None, None


def _language_model(model: Any, family: str) -> tuple[str, str]:
    """Return the paths of the language model and of its list of blocks; "" where it is the whole model."""
    text = model.config.get_text_config(decoder=True)
    depth = getattr(text, "num_hidden_layers", None)
    trunks = [path for path, module in model.named_modules() if getattr(module, "config", None) is text]
    for path, module in model.named_modules():
        if trunks and path.startswith(trunks[0]) and isinstance(module, nn.ModuleList) and len(module) == depth:
            return trunks[0], path
    raise MergeFailed(f"the blocks of the language model of a {family} are not where transformers keeps such blocks")


def _part(parameter: str | None, paths: _Paths, stored: str) -> str:
    """Return the part that a tensor belongs to: the language model, or the child of the model that holds it."""
    name = parameter or stored
    if name.startswith(paths.language) or _FURTHER.match(stored):
        return TEXT_MODULE
    return name.removeprefix(paths.base).partition(".")[0]
