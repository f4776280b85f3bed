"""What a merge method is: a record of its parameters and two functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from evomerge.methods._statistics import Statistics

Value = float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method.

    per: "merge" = one value a tensor; "input" = one for each input, a listed base included; "parent" = one for each
        input that is not the base.
    default: used where a recipe gives none; None = the recipe must give one.
    low, high: inclusive bounds of what a recipe may say.
    gene: (low, high) a search uses when its space names no range; None = not searched by default.
    positive: a search range must stay above 0, because at 0 the model would drop out whatever its weight.
    effect: False = accepted because mergekit accepts it, but it changes no number; a recipe that sets it is told so.
    """

    name: str
    per: Literal["merge", "input", "parent"]
    kind: Literal["number", "integer", "flag"] = "number"
    default: Value | None = None
    low: float = float("-inf")
    high: float = float("inf")
    gene: tuple[float, float] | None = None
    positive: bool = False
    effect: bool = True
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The tensors of one merge: all of one shape, contiguous, floating point, in the order of the recipe.

    base: the tensor that task vectors are taken against, or None. models: the others.
    tensor: name of the output tensor; parents: how the recipe names each of `models`. Random masks are addressed
        by seed, parent and tensor, so they depend on nothing else.
    """

    models: Sequence[torch.Tensor]
    base: torch.Tensor | None = None
    tensor: str = ""
    parents: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Parameter values of one tensor: `merge` for the whole, `parents` one mapping for each of `Inputs.models`.

    Hashable, so that equal settings are recognised and the tensor need not be rebuilt.
    """

    merge: tuple[tuple[str, Value], ...] = ()
    parents: tuple[tuple[tuple[str, Value], ...], ...] = ()

    @classmethod
    def of(cls, merge: Mapping[str, Value], parents: Sequence[Mapping[str, Value]]) -> "Settings":
        """Freeze plain mappings."""
        return cls(tuple(sorted(merge.items())), tuple(tuple(sorted(each.items())) for each in parents))

    def shared(self, name: str) -> Value:
        """Return the value of a per-merge parameter."""
        return dict(self.merge)[name]

    def each(self, name: str) -> list[float]:
        """Return the values of a per-parent parameter, in the order of `Inputs.models`."""
        return [float(dict(parent)[name]) for parent in self.parents]


class Arithmetic(Protocol):
    """The numbers of a method: coefficients from statistics, then an elementwise pass over blocks."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> object:
        """Turn settings and whole-tensor statistics into the few numbers that `combine` needs."""
        ...

    def combine(self, out: torch.Tensor, block: "Block", coefficients: Any) -> None:
        """Write one block of the result, in working precision, into `out`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One stretch of all inputs: flat views, and where in the flat tensor it starts."""

    models: Sequence[torch.Tensor]
    base: torch.Tensor | None
    start: int
    scratch: "Scratch" = field(repr=False)


class Scratch:
    """Reused working buffers of one block size: fresh allocations would cost more than the arithmetic."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device):
        self.size, self.dtype, self.device = size, dtype, device
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def buffer(self, name: str, length: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the first `length` elements of the buffer called `name`; contents are undefined."""
        key = (name, dtype or self.dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(self.size, dtype=key[1], device=self.device)
        return self._buffers[key][:length]

    def load(self, name: str, source: torch.Tensor) -> torch.Tensor:
        """Copy `source` into the buffer called `name`, converted to working precision."""
        return self.buffer(name, source.numel()).copy_(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A merge method.

    base: whether the recipe must name a base ("required"), may ("optional"), or whether a base is an ordinary input
        like the others ("input").
    inputs: smallest and largest number of models besides a required or optional base; None = no limit.
    """

    name: str
    title: str
    formula: str
    paper: str
    base: Literal["required", "optional", "input"]
    inputs: tuple[int, int | None]
    parameters: tuple[Parameter, ...]
    arithmetic: Arithmetic

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter called `name`, or None."""
        return next((p for p in self.parameters if p.name == name), None)
