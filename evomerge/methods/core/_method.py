"""What a merge method is: a record of its parameters and two functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.methods.core._scratch import Scratch
from evomerge.methods.statistics._tables import Statistics

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
class Variant:
    """One choice a recipe has where a method's paper and mergekit differ.

    options: what can be chosen, mergekit's first, which is the default; doc: what each of them does.
    """

    name: str
    options: tuple[str, ...]
    doc: str


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

    variants: the choices that differ from mergekit's, by name. Hashable, so that equal settings are recognized and
    the tensor need not be rebuilt.
    """

    merge: tuple[tuple[str, Value], ...] = ()
    parents: tuple[tuple[tuple[str, Value], ...], ...] = ()
    variants: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        merge: Mapping[str, Value],
        parents: Sequence[Mapping[str, Value]],
        variants: Mapping[str, str] | None = None,
    ) -> "Settings":
        """Freeze plain mappings."""
        return cls(
            tuple(sorted(merge.items())),
            tuple(tuple(sorted(each.items())) for each in parents),
            tuple(sorted((variants or {}).items())),
        )

    def shared(self, name: str) -> Value:
        """Return the value of a per-merge parameter."""
        return dict(self.merge)[name]

    def each(self, name: str) -> list[float]:
        """Return the values of a per-parent parameter, in the order of `Inputs.models`."""
        return [float(dict(parent)[name]) for parent in self.parents]

    def variant(self, variant: Variant) -> str:
        """Return the option chosen for `variant`: its first where nothing was said.

        Raises:
            InvalidInput: what was chosen is no option of it.
        """
        chosen = dict(self.variants).get(variant.name, variant.options[0])
        if chosen not in variant.options:
            raise InvalidInput(
                f'variant {variant.name}: "{chosen}" is not one of {", ".join(variant.options)}.'
                f"{did_you_mean(chosen, variant.options)}"
            )
        return chosen


class Arithmetic(Protocol):
    """The numbers of a method: coefficients from statistics, then an elementwise pass over blocks."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Any:
        """Turn settings and whole-tensor statistics into the few numbers that `combine` needs."""
        ...

    def combine(self, out: torch.Tensor, block: "Block", coefficients: Any) -> None:
        """Write one block of the result, in working precision, into `out`."""
        ...

    def fused(self, out: torch.Tensor, inputs: Inputs, coefficients: Any, gain: float) -> bool | None:
        """Write the whole result with a compiled kernel; return whether it is finite, None if there is no kernel."""
        return None

    def unit(self, inputs: Inputs) -> int:
        """Return the number of elements that a block must hold a multiple of (1 = any block will do)."""
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One stretch of all inputs: flat views, and where in the flat tensor it starts."""

    models: Sequence[torch.Tensor]
    base: torch.Tensor | None
    start: int
    scratch: Scratch = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A merge method.

    base: whether the recipe must name a base ("required"), may ("optional"), or whether a base is an ordinary input
        like the others ("input").
    inputs: smallest and largest number of models besides a required or optional base; None = no limit.
    variants: where the paper and mergekit differ, what a recipe can choose.
    passes: how often each input is read at most, the writing pass included, when no statistics are known yet.
    """

    name: str
    title: str
    formula: str
    paper: str
    base: Literal["required", "optional", "input"]
    inputs: tuple[int, int | None]
    parameters: tuple[Parameter, ...]
    arithmetic: Arithmetic
    variants: tuple[Variant, ...] = ()
    passes: int = 1

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter called `name`, or None."""
        return next((p for p in self.parameters if p.name == name), None)

    def variant(self, name: str) -> Variant | None:
        """Return the variant called `name`, or None."""
        return next((v for v in self.variants if v.name == name), None)
