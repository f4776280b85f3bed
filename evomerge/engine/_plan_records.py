"""A plan: everything about a merge but the arithmetic, as frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.checkpoint import Layout, TensorInfo
from evomerge.engine._alignment import Alignment
from evomerge.methods import Settings
from evomerge.recipe import ModelRef, Recipe


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor of a parent.

    Attributes:
        model: the parent.
        tensor: its name there.
    """

    model: ModelRef
    tensor: str

    def __str__(self) -> str:
        return f"{self.model}: {self.tensor}"


@dataclass(frozen=True, slots=True)
class Rows:
    """How a tensor with one row for each token is brought to the output's vocabulary before the merge.

    Attributes:
        alignment: which row of which model each row of the output takes.
        origins: this tensor in every model that rows may be taken from.
    """

    alignment: Alignment
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """How one tensor of the result is made. Equal plans make equal bytes.

    Attributes:
        name: in the result.
        method: name of the merge method.
        models: the tensor in each input but the base, in the recipe's order.
        base: the tensor in the base, if the method has one.
        settings: the method's parameters here.
        dtype: of the result.
        shape: of the result.
        gain: factor on the result.
        seed: of random masks.
        rows: how the inputs are aligned; None = the parents' rows as they are.
        copied: whether the result is a parent's own tensor, bit for bit.
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

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The tensor in every input, the base first."""
        return self.models if self.base is None else (self.base, *self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about a merge but the arithmetic.

    Attributes:
        recipe: what was planned.
        tensors: in the order in which they are written.
        layers: for each block of the result, the model and the block there that it stands for (of its first source).
        dtype: of the result's weights, but for those that the family keeps in float32.
        config: the result's config.json.
        layout: which tensors of the result are in which block.
        notes: what the user should know, such as settings without effect.
    """

    recipe: Recipe
    tensors: tuple[TensorPlan, ...]
    layers: tuple[tuple[ModelRef, int], ...]
    dtype: torch.dtype
    config: Mapping[str, Any]
    layout: Layout
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the result's tensors."""
        return sum(tensor.info.size_bytes for tensor in self.tensors)
