"""What transformers knows of a family: the model's class, where each stored tensor goes, which blocks are language.

Imports transformers when something is asked, never before. Must not import the rest of `checkpoint`.
"""

from evomerge.checkpoint.family._model_class import config_object, generative_class, meta_model, named_tensors
from evomerge.checkpoint.family._model_parts import ModelParts, has_parts
from evomerge.checkpoint.family._parameter_map import Fit, ParameterMap, ParameterPart, parameter_map

__all__ = [
    "Fit",
    "ModelParts",
    "ParameterMap",
    "ParameterPart",
    "config_object",
    "generative_class",
    "has_parts",
    "meta_model",
    "named_tensors",
    "parameter_map",
]
