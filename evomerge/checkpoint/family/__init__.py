"""Families of models: transformers' class, where each stored tensor goes, which blocks are language, roles by name.

Imports transformers when something is asked, never before. Must not import the rest of `checkpoint`.
"""

from evomerge.checkpoint.family._model_class import config_object, generative_class, meta_model, named_tensors
from evomerge.checkpoint.family._model_parts import ModelParts, has_parts
from evomerge.checkpoint.family._names import (
    TIED_FAMILIES,
    embedding_name,
    is_head,
    is_old_buffer,
    is_optional,
    is_tied_copy,
    is_vocabulary,
    tied_original,
)
from evomerge.checkpoint.family._parameter_map import Fit, ParameterMap, ParameterPart, parameter_map

__all__ = [
    "TIED_FAMILIES",
    "Fit",
    "ModelParts",
    "ParameterMap",
    "ParameterPart",
    "config_object",
    "embedding_name",
    "generative_class",
    "has_parts",
    "is_head",
    "is_old_buffer",
    "is_optional",
    "is_tied_copy",
    "is_vocabulary",
    "meta_model",
    "named_tensors",
    "parameter_map",
    "tied_original",
]
