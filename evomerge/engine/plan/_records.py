"""A plan: everything about a merge but the arithmetic, as frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.checkpoint import TensorInfo
from evomerge.engine._alignment import Alignment
from evomerge.methods import Settings
from evomerge.recipe import ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor of a parent."""

    model: ModelRef
    tensor: str

    def __str__(self) -> str:
        return f"{self.model}: {self.tensor}"


@dataclass(frozen=True, slots=True)
class Rows:
    """How a tensor with one row for each token is brought to the output's vocabulary before the merge.

    origins: this tensor in every model that may have to lend rows.
    """

    alignment: Alignment
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """How one tensor of the result is made. Equal plans make equal bytes.

    gain: factor on the result. seed: of random masks. rows: None = the parents' rows as they are.
    copied: the result is a parent's own tensor, bit for bit.
    """

    name: str
    method: str
    models: tuple[Origin, ...]
    base: Origin | None
    settings: Settings
    dtype: torch.dtype
    shape: tuple[int, ...]
    gain: float = 1.0
    seed: int = 0
    rows: Rows | None = None
    copied: bool = False

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape of the result."""
        return TensorInfo(self.dtype, self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about a merge but the arithmetic.

    tensors: in the order in which they are written. layers: for each block of the result, the model and block there
    that it stands for (of its first source). notes: what the user should know, such as settings without effect.
    """

    recipe: Recipe
    tensors: tuple[TensorPlan, ...]
    layers: tuple[tuple[ModelRef, int], ...]
    dtype: torch.dtype
    config: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the result's tensors."""
        return sum(tensor.info.size_bytes for tensor in self.tensors)
