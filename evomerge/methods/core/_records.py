"""The plain records of a merge: what a method takes, and the tensors and settings of one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.methods.core._scratch import Scratch

Value = float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: how recipes and search spaces call it.
        per: "merge" = one value for each tensor; "input" = one for each input, a listed base included; "parent" = one
            for each input that is not the base.
        kind: "number", "integer" or "flag" (true or false).
        default: used where a recipe gives none; None = the recipe must give one.
        low: smallest value that a recipe may give, inclusive.
        high: largest value that a recipe may give, inclusive.
        gene: (low, high) that a search uses when its space names no range; None = not searched by default.
        start: where a search starts when its space does not say: in the middle of the range, or at an equal share of
            1 / (number of models).
        positive: a search range must stay above 0, because at 0 the model would drop out whatever its weight.
        smooth: whether the result is a smooth function of it while masks, thresholds and elected signs stay as they
            are, so that a search may follow its gradient.
        doc: one phrase for users.
    """

    name: str
    per: Literal["merge", "input", "parent"]
    kind: Literal["number", "integer", "flag"] = "number"
    default: Value | None = None
    low: float = float("-inf")
    high: float = float("inf")
    gene: tuple[float, float] | None = None
    start: Literal["middle", "equal"] = "middle"
    positive: bool = False
    smooth: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One choice that a recipe has where a method's paper and mergekit differ.

    Attributes:
        name: how recipes call it.
        options: what can be chosen; mergekit's comes first and is the default.
        doc: what each option does.
    """

    name: str
    options: tuple[str, ...]
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The tensors of one merge: all of one shape, contiguous, floating point, in the order of the recipe.

    Random masks are addressed by seed, parent and tensor, so they depend on nothing else.

    Attributes:
        models: the tensors that are merged, without the base.
        base: the tensor that task vectors are taken against, or None.
        tensor: name of the output tensor.
        parents: how the recipe names each of `models`.
        seed: of random masks.
    """

    models: Sequence[torch.Tensor]
    base: torch.Tensor | None = None
    tensor: str = ""
    parents: Sequence[str] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Parameter values of one tensor. Hashable: where settings are equal, the tensor need not be rebuilt.

    Attributes:
        merge: values of the parameters for the whole merge, as (name, value), sorted.
        parents: the same for each of `Inputs.models`.
        variants: the choices that differ from mergekit's, as (name, option), sorted.
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
            tuple(tuple(sorted(parent.items())) for parent in parents),
            tuple(sorted((variants or {}).items())),
        )

    def shared(self, name: str) -> Value:
        """Return the value of a parameter of the whole merge."""
        return dict(self.merge)[name]

    def each(self, name: str) -> list[float]:
        """Return the values of a parameter of each model, in the order of `Inputs.models`."""
        return [float(dict(parent)[name]) for parent in self.parents]

    def replaced(self, name: str, value: float, model: int | None) -> "Settings":
        """Return the settings with another value of one parameter.

        Args:
            name: of a parameter that is set.
            value: the new one.
            model: position of the model whose parameter it is; None = it is one of the whole merge.
        """

        def changed(values: tuple[tuple[str, Value], ...]) -> tuple[tuple[str, Value], ...]:
            return tuple((key, value if key == name else old) for key, old in values)

        if model is None:
            return replace(self, merge=changed(self.merge))
        parents = (changed(values) if i == model else values for i, values in enumerate(self.parents))
        return replace(self, parents=tuple(parents))

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One stretch of all inputs.

    Attributes:
        models: (n,) flat views, one for each model, in their stored dtype.
        base: the same of the base, or None.
        start: flat position of the first element in the whole tensor.
        scratch: buffers in working precision.
    """

    models: Sequence[torch.Tensor]
    base: torch.Tensor | None
    start: int
    scratch: Scratch = field(repr=False)
