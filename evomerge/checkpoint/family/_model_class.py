"""From a config to transformers' class and an object of it without weights."""

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from evomerge.errors import MergeFailed, first_line

_MAX_CONFIGS = 32  # kept: those of a search's parents, and of stacks of some depths


def config_object(config: Mapping[str, Any]) -> Any:
    """Return transformers' object for a config, which reads some values only from a file.

    Args:
        config: content of config.json. Code that it names (`auto_map`) is never run.

    Raises:
        MergeFailed: transformers does not know the family, or the values make no sense to it.
    """
    config = {key: value for key, value in config.items() if key != "auto_map"}
    try:
        return copy.deepcopy(_read_by_transformers(json.dumps(config)))  # whoever gets it may change it
    except Exception as error:  # each family's config class raises what it likes
        family = config.get("model_type")
        raise MergeFailed(f"transformers cannot read this config of a {family} ({first_line(error)})") from None


@lru_cache(maxsize=_MAX_CONFIGS)
def _read_by_transformers(config: str) -> Any:
    """Return transformers' object for a config.json of this content."""
    from transformers import AutoConfig

    with TemporaryDirectory(prefix="evomerge-config-") as folder:
        (Path(folder) / "config.json").write_text(config, encoding="utf-8")
        return AutoConfig.from_pretrained(folder)


def model_class(config: Mapping[str, Any], described: object) -> Any:
    """Return the class that a checkpoint's own `architectures` names, else the class for generating text.

    Args:
        config: content of config.json.
        described: transformers' object for it.

    Returns:
        A class, or None where transformers has none.
    """
    import transformers

    stated = getattr(transformers, next(iter(config.get("architectures") or []), ""), None)
    if isinstance(stated, type) and issubclass(stated, transformers.PreTrainedModel):
        return stated
    return generative_class(config, described)


def generative_class(config: Mapping[str, Any], described: object) -> Any:
    """Return the class that gives logits for a text, image or not, or None.

    Args:
        config: content of config.json.
        described: transformers' object for it.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if getattr(described, "is_encoder_decoder", False):
        return None
    found = [
        kind._model_mapping[type(described)]
        for kind in (AutoModelForCausalLM, AutoModelForImageTextToText)
        if type(described) in kind._model_mapping
    ]
    stated = next(iter(config.get("architectures") or []), "")
    return next((kind for kind in found if kind.__name__ == stated), found[0] if found else None)


def meta_model(config: Mapping[str, Any], dtype: torch.dtype | None = None) -> nn.Module:
    """Return the model of a config and its `architectures` on the meta device: modules and shapes without memory.

    Args:
        config: the content of config.json.
        dtype: of the weights that declare none; None = torch's default.

    Raises:
        MergeFailed: transformers cannot build it.
    """
    described = config_object(config)
    known = model_class(config, described)
    family = str(config.get("model_type", "model"))
    if known is None:
        raise MergeFailed(f"transformers has no class for a {family}")
    try:
        with torch.device("meta"):
            model: nn.Module = known(described) if dtype is None else known._from_config(described, dtype=dtype)
    except Exception as error:  # each family's class raises what it likes
        raise MergeFailed(f"transformers cannot build a {known.__name__} ({first_line(error)})") from None
    return model


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and persistent buffer by name; tied ones appear under each of their names."""
    named: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    persistent = set(model.state_dict(keep_vars=True))
    buffers = model.named_buffers(remove_duplicate=False)
    named.update({name: buffer for name, buffer in buffers if name in persistent})
    return named
