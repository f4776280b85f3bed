"""Which tensors a transformers model has, and where a tensor of a checkpoint file goes: transformers' own rules.

Most tensors go where their names say. Some families are held in memory in another form than they are stored: parts
are renamed, and a block's experts are fused into two parameters, of which each stored tensor is a view. Both are read
from transformers' conversion mapping, the one by which `from_pretrained` loads a folder.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn

from evomerge.checkpoint.family._model_class import meta_model, named_tensors

Shapes = Mapping[str, tuple[int, ...]]

_MAX_MAPS = 8  # of configs that were asked about last
_MAX_FITS = 4  # of each of them
_OLD_BUFFERS = (re.compile(r"rotary_emb\.inv_freq"), re.compile(r"(^|\.)position_ids$"))  # in old files of any family


class ViewStep(NamedTuple):
    """A step from a tensor to a part of it.

    Attributes:
        kind: "select" (dimension, index), "narrow" (dimension, start, length) or "transpose" (dimension, dimension).
        arguments: of that step.
    """

    kind: str
    arguments: tuple[int, ...]


class ParameterPart(NamedTuple):
    """A parameter in memory, or a part of one.

    Attributes:
        parameter: its name in the model's object.
        steps: from the parameter to the part; empty = the whole parameter.
    """

    parameter: str
    steps: tuple[ViewStep, ...] = ()

    def view(self, whole: torch.Tensor) -> torch.Tensor:
        """Return this part of a parameter: shares its memory, not always contiguous.

        Args:
            whole: the parameter's tensor, or another of its shape.

        Returns:
            Of the shape that the stored tensor has.
        """
        for kind, arguments in self.steps:
            whole = getattr(whole, kind)(*arguments)
        return whole


class Fit(NamedTuple):
    """How stored tensors fill a model.

    Attributes:
        parts: stored name -> where it goes; None = the model reads no such tensor, and that is no fault.
        unexpected: a stored tensor that the model has no place for, or None.
        mismatched: what is wrong with the shape of a stored tensor, in words, or None.
        missing: a parameter that is left wholly or partly empty, or None.
        unknown: a stored tensor that transformers converts in a way that is no view, or None.
    """

    parts: Mapping[str, ParameterPart | None]
    unexpected: str | None
    mismatched: str | None
    missing: str | None
    unknown: str | None

    @property
    def problem(self) -> str | None:
        """What keeps the stored tensors from being all of the model and nothing else, in words, or None."""
        if self.unexpected is not None:
            return f"it has no place for {self.unexpected}"
        return self.mismatched or (f"no block has {self.missing}" if self.missing else None)


class _Fused(NamedTuple):
    """A tensor that stored tensors are put together to.

    Attributes:
        shape: of it.
        members: stored name -> the steps from it to that tensor.
    """

    shape: tuple[int, ...]
    members: Mapping[str, tuple[ViewStep, ...]]


class ParameterMap:
    """The parameters and persistent buffers of a model, and which stored tensor fills which of them.

    Attributes:
        shapes: name -> shape; a tied tensor appears under each of its names.
        tied: name -> the first name of the same tensor.
    """

    def __init__(self, model: nn.Module):
        tensors = named_tensors(model)
        first: dict[int, str] = {}
        self.shapes: dict[str, torch.Size] = {name: tensor.shape for name, tensor in tensors.items()}
        self.tied: dict[str, str] = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
        self._prefix = str(getattr(model, "base_model_prefix", ""))  # which files of base models lack
        self._transforms = _transforms(model)
        self._unread = [*_patterns(model, "_keys_to_ignore_on_load_unexpected"), *_OLD_BUFFERS]
        self._optional = _patterns(model, "_keys_to_ignore_on_load_missing")
        self._fits: dict[tuple[tuple[str, tuple[int, ...]], ...], Fit] = {}

    def names(self, stored: Iterable[str]) -> dict[str, str]:
        """Return stored name -> the parameter that it goes to, or to a part of which; others are left out.

        Args:
            stored: names of all tensors of a folder.
        """
        renamed = self._renamed(stored)
        return {name: parameter for name, (parameter, _, _) in renamed.items() if parameter in self.shapes}

    def fit(self, stored: Shapes) -> Fit:
        """Return how stored tensors fill the model.

        Args:
            stored: name -> shape of all tensors of a folder.
        """
        key = tuple(stored.items())
        if key not in self._fits:
            self._fits = dict([*self._fits.items()][1 - _MAX_FITS :])
            self._fits[key] = self._fit(stored)
        return self._fits[key]

    def _fit(self, stored: Shapes) -> Fit:
        parts: dict[str, ParameterPart | None] = {}
        filled: dict[str, int] = {}
        groups: dict[str, tuple[Any, dict[str, list[str]]]] = {}
        unexpected = mismatched = unknown = None
        for name, (parameter, pattern, converter) in self._renamed(stored).items():
            if parameter not in self.shapes:
                parts[name] = None
                if unexpected is None and not any(p.search(name) or p.search(parameter) for p in self._unread):
                    unexpected = name
            elif converter is None:
                parts[name] = ParameterPart(parameter)
                mismatched = mismatched or _mismatch(name, stored[name], self.shapes[parameter])
            else:
                groups.setdefault(parameter, (converter, {}))[1].setdefault(pattern, []).append(name)
            owner = self.tied.get(parameter, parameter)
            filled[owner] = filled.get(owner, 0) + prod(stored[name])
        for parameter, (converter, members) in groups.items():
            fused = _fused(converter, members, stored, self.shapes[parameter])
            if fused is None:
                unknown = unknown or next(iter(members.values()))[0]
                parts |= dict.fromkeys((name for names in members.values() for name in names), None)
                continue
            parts |= {name: ParameterPart(parameter, steps) for name, steps in fused.members.items()}
            mismatched = mismatched or _mismatch(f"{parameter} in all", fused.shape, self.shapes[parameter])
        missing = None if unknown else self._missing(filled)
        return Fit({name: parts[name] for name in stored}, unexpected, mismatched, missing, unknown)

    def _missing(self, filled: Mapping[str, int]) -> str | None:
        for name, shape in self.shapes.items():
            whole = filled.get(self.tied.get(name, name), 0) >= shape.numel()
            if not whole and not any(pattern.search(name) for pattern in self._optional):
                return name
        return None

    def _renamed(self, stored: Iterable[str]) -> dict[str, tuple[str, str, Any]]:
        """Return stored name -> the name that transformers gives it, and the pattern and converter that apply."""
        from transformers.core_model_loading import WeightConverter, dot_natural_key, rename_source_key

        transforms = deepcopy(self._transforms)  # some remember what they have seen
        converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
        renamings = [transform for transform in transforms if not isinstance(transform, WeightConverter)]
        of_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        found = {}
        for name in sorted(stored, key=dot_natural_key):
            full, pattern = rename_source_key(name, renamings, converters, self._prefix, self.shapes)
            if full not in self.shapes and name in self.shapes:
                full, pattern = rename_source_key(name, [], [], self._prefix, self.shapes)
            found[name] = (full, pattern, None if pattern is None else of_pattern[pattern])
        return found


@lru_cache(maxsize=_MAX_MAPS)
def _cached_map(config: str) -> ParameterMap:
    return ParameterMap(meta_model(json.loads(config)))


def parameter_map(config: Mapping[str, Any]) -> ParameterMap:
    """Return the map of the model that a config describes, built without memory for weights.

    Args:
        config: content of config.json.

    Raises:
        MergeFailed: transformers cannot build the model.
    """
    return _cached_map(json.dumps(config, sort_keys=True))


def _transforms(model: nn.Module) -> list[Any]:
    """Return transformers' own rules from stored names to this model's."""
    from transformers import PreTrainedModel
    from transformers.conversion_mapping import get_model_conversion_mapping

    return list(get_model_conversion_mapping(model)) if isinstance(model, PreTrainedModel) else []


def _patterns(model: nn.Module, attribute: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in getattr(model, attribute, None) or ()]


def _mismatch(name: str, found: Sequence[int], expected: Sequence[int]) -> str | None:
    if tuple(found) == tuple(expected):
        return None
    return f"{name} is {list(found)}, but the config makes it {list(expected)}"


def _fused(
    converter: Any, members: Mapping[str, Sequence[str]], stored: Shapes, expected: Sequence[int]
) -> _Fused | None:
    """Return the parameter that a converter of transformers makes of stored tensors, or None where none is a view.

    Args:
        converter: with the operations that it applies one after another.
        members: its source patterns -> the stored tensors that match, in the order in which they are collected.
        stored: shapes of all tensors.
        expected: shape of the parameter.
    """
    lists = {
        pattern: [_Fused(stored[name], {name: ()}) for name in members[pattern]]
        for pattern in converter.source_patterns
        if pattern in members
    }
    for operation in converter.operations:
        kind = type(operation).__name__
        if kind == "MergeModulelist":
            if len({tensor.shape for tensors in lists.values() for tensor in tensors}) > 1:
                return None
            lists = {pattern: [_stacked(tensors, operation.dim)] for pattern, tensors in lists.items()}
        elif kind == "Concatenate":
            tensors = [tensor for tensors in lists.values() for tensor in tensors]
            lists = {"": [_concatenated(tensors, operation.dim)]}
        elif kind == "Transpose" and len(lists) == 1:
            (tensor,) = next(iter(lists.values()))
            if not (operation.check_dims and tensor.shape == tuple(expected)):
                lists = {"": [_transposed(tensor, operation.dim0, operation.dim1)]}
        else:
            return None
    tensors = [tensor for tensors in lists.values() for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else None


def _stacked(tensors: Sequence[_Fused], dim: int) -> _Fused:
    shape = list(tensors[0].shape)
    shape.insert(dim, len(tensors))
    members = [
        (name, (ViewStep("select", (dim, position)), *steps))
        for position, tensor in enumerate(tensors)
        for name, steps in tensor.members.items()
    ]
    return _Fused(tuple(shape), dict(members))


def _concatenated(tensors: Sequence[_Fused], dim: int) -> _Fused:
    members: dict[str, tuple[ViewStep, ...]] = {}
    start = 0
    for tensor in tensors:
        length = tensor.shape[dim]
        members |= {name: (ViewStep("narrow", (dim, start, length)), *steps) for name, steps in tensor.members.items()}
        start += length
    shape = list(tensors[0].shape)
    shape[dim] = start
    return _Fused(tuple(shape), members)


def _transposed(tensor: _Fused, dim0: int, dim1: int) -> _Fused:
    shape = list(tensor.shape)
    shape[dim0], shape[dim1] = shape[dim1], shape[dim0]
    members = {name: (ViewStep("transpose", (dim0, dim1)), *steps) for name, steps in tensor.members.items()}
    return _Fused(tuple(shape), members)
