"""The dtype of every tensor of a result: the one that it has after transformers' `from_pretrained` loaded the result.

So that the live model, the folder and the loaded folder hold the same numbers, every weight has the result's dtype
(what the recipe says, else what holds the values of all parents' main dtypes), but for those that transformers keeps
in float32 whatever a model's dtype is (`_keep_in_fp32_modules`, parameters declared as float32).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from evomerge import methods
from evomerge.checkpoint import Model, ParameterMap, Parents, meta_model, named_tensors
from evomerge.errors import MergeFailed
from evomerge.recipe import ModelRef, Recipe

_HALF = (torch.float16, torch.bfloat16)
# What a family's file of transformers holds if some of its weights may stay in float32. Read as text, because importing
# a family takes seconds, and most keep nothing.
_KEEPS = re.compile(r"_keep_in_fp32_modules(_strict)?\s*=\s*[^N\s]|Parameter\(.*float32")


class ResultDtypes:
    """The dtype of each tensor of a recipe's result.

    Attributes:
        main: of all weights but those that are kept in float32.
    """

    def __init__(self, recipe: Recipe, parents: Parents):
        stated = recipe.out_dtype or recipe.dtype
        used = [parents[ref] for ref in _weighed(recipe) or [recipe.config_source]]
        self.main: torch.dtype = (
            getattr(torch, stated) if stated else reduce(torch.promote_types, [model.dtype for model in used])
        )
        self._source = parents[recipe.config_source]
        key = ("float32 weights", recipe.config_source, self.main)
        if key not in parents.memo:
            parents.memo[key] = _float32_weights(self._source, self.main)
        self._float32: frozenset[str] = parents.memo[key]

    def of(self, name: str) -> torch.dtype:
        """Return the dtype of a floating-point tensor of the result.

        Args:
            name: in the result, which is spelled as in the config source.
        """
        return torch.float32 if self._float32 and self._source.layout.site(name).suffix in self._float32 else self.main


def _weighed(recipe: Recipe) -> Sequence[ModelRef]:
    """Return the models whose weights enter the result."""
    uses_base = any(methods.get(name).base != "input" for name in recipe.methods)
    found = [source.model for part in recipe.slices for source in part.sources]
    if uses_base:
        found += [base for part in recipe.slices if (base := part.base or recipe.base)]
    return tuple(dict.fromkeys(found))


def _float32_weights(model: Model, dtype: torch.dtype) -> frozenset[str]:
    """Return the weights of a model, by their names inside their blocks, that are float32 when it is loaded in a dtype.

    A family that transformers does not know keeps none.
    """
    if dtype not in _HALF or not any(_may_keep(family) for family in _families(model.config)):
        return frozenset()
    try:
        empty = meta_model(model.config, dtype)
    except MergeFailed:
        return frozenset()
    kept = _kept_patterns(empty, dtype)
    dtypes = {name: tensor.dtype for name, tensor in named_tensors(empty).items()}
    return frozenset(
        model.layout.site(name).suffix
        for name, parameter in ParameterMap(empty).names(model.tensors).items()
        if dtypes[parameter] == torch.float32 or any(pattern.search(parameter) for pattern in kept)
    )


def _kept_patterns(model: object, dtype: torch.dtype) -> list[re.Pattern[str]]:
    """Return the patterns of parameter names that transformers keeps in float32."""
    names = list(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:  # bfloat16 has float32's range
        names += list(getattr(model, "_keep_in_fp32_modules", None) or ())
    return [re.compile(name.replace("*", ".*")) for name in names]


def _families(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the family of a config and of its parts."""
    if isinstance(config.get("model_type"), str):
        yield config["model_type"]
    for part in config.values():
        if isinstance(part, Mapping):
            yield from _families(part)


@cache
def _may_keep(family: str) -> bool:
    """Tell whether some weights of a family may stay in float32; True where its file is not found."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return False
    folder = family.replace("-", "_")
    for name in (folder, folder.removesuffix("_text")):
        files = list((Path(found.origin).parent / "models" / name).glob("modeling_*.py"))
        if files:
            return any(_KEEPS.search(file.read_text(encoding="utf-8")) for file in files)
    return True
