"""What a merge method is: facts about it, coefficients from statistics, and an elementwise pass."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from evomerge.methods.core._absent import AbsentRule, merge_present
from evomerge.methods.core._records import Block, Inputs, Parameter, Settings, Variant
from evomerge.methods.statistics import Statistics

_FACTS = ("name", "title", "formula", "paper", "base", "inputs", "parameters")


class Contributions(NamedTuple):
    """What each input counts for in a merge, as far as its settings say: for people, not for the arithmetic.

    Attributes:
        models: factor on each model, or on its task vector where the method has a base.
        base: factor on the base; None = it is what the result starts from, and is not listed.
    """

    models: tuple[float, ...]
    base: float | None = None


class Method(ABC):
    """A merge method. Subclass, say the facts as class attributes, and define `coefficients` and `combine`.

    A subclass that lacks one of the facts or functions can be a base of others, but creating an object of it raises
    TypeError. Objects hold no state: what depends on tensors belongs into coefficients and statistics.

    Everything that the rest of the program must know of a method is said here: whether it needs a base, whether it is
    random, what becomes of an absent tensor, what each parent contributes.

    Attributes:
        name: how recipes call it; a plain word, with underscores.
        title: the name in words.
        formula: what it computes, on one line.
        paper: author, year and link.
        base: whether the recipe must name a base ("required"), may ("optional"), or whether a base is an ordinary
            input like the others ("input").
        inputs: smallest and largest number of models besides a required or optional base; None = no limit.
        parameters: what a recipe can set.
        variants: where the paper and mergekit differ, what a recipe can choose.
        random: whether the result depends on the recipe's seed.
        symmetric: whether the order of the models changes nothing but rounding.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str]
    base: ClassVar[Literal["required", "optional", "input"]]
    inputs: ClassVar[tuple[int, int | None]]
    parameters: ClassVar[tuple[Parameter, ...]]
    variants: ClassVar[tuple[Variant, ...]] = ()
    random: ClassVar[bool] = False
    symmetric: ClassVar[bool] = True

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check the facts that a subclass states.

        Raises:
            TypeError: one of them makes no sense.
        """
        super().__init_subclass__(**keywords)
        _check_facts(cls)

    def __new__(cls, *_: Any, **__: Any) -> "Method":
        """Refuse an incomplete method.

        Raises:
            TypeError: facts or functions are missing; the message names them.
        """
        missing = [fact for fact in _FACTS if not hasattr(cls, fact)]
        if missing and not inspect.isabstract(cls):
            raise TypeError(f"merge method {cls.__name__} does not say its {', '.join(missing)}")
        return super().__new__(cls)

    @abstractmethod
    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Any:
        """Turn settings and whole-tensor statistics into the few numbers that `combine` needs.

        Inputs may hold NaN or infinity; then the coefficients, or the result, are not finite either.

        Raises:
            MergeFailed: the settings have no meaning for these inputs (weights that sum to 0).
        """

    @abstractmethod
    def combine(self, out: torch.Tensor, block: Block, coefficients: Any) -> None:
        """Write one block of the result.

        Args:
            out: (n,) in working precision; its content is undefined.
            block: the inputs, which must not be changed.
            coefficients: what `coefficients` returned.
        """

    def merge_compiled(
        self, out: torch.Tensor, inputs: Inputs, coefficients: Any, gain: float
    ) -> bool | torch.Tensor | None:
        """Write the whole result with a compiled kernel, if there is one.

        Returns:
            Whether the result is finite, on a GPU as a 0-d bool tensor that is not waited for; None = no kernel.
        """
        return None

    def unit(self, inputs: Inputs) -> int:
        """Return the number of elements that a block must hold a multiple of (1 = any block will do)."""
        return 1

    def when_absent(self, base: bool | None, models: Sequence[bool]) -> AbsentRule:
        """Say what becomes of a tensor that some inputs lack.

        Args:
            base: whether the base has it; None = the merge has no base.
            models: whether each other input has it.
        """
        return merge_present(base, models, self.inputs[0])

    def contributions(self, settings: Settings) -> Contributions:
        """Return what each input counts for; by default every model alike."""
        return Contributions((1.0,) * len(settings.parents))

    def copied_model(self, settings: Settings) -> int | None:
        """Return the position of the model whose tensor is the result, bit for bit; None = something is computed."""
        return None

    @property
    def merges(self) -> bool:
        """Whether inputs are merged with each other; a method of one input only stacks or scales."""
        return self.base != "input" or self.inputs[1] != 1

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter called `name`, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def variant(self, name: str) -> Variant | None:
        """Return the variant called `name`, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)


def _check_facts(cls: type[Method]) -> None:
    """Raise TypeError for stated facts that make no sense."""
    said = {fact: getattr(cls, fact) for fact in (*_FACTS, "variants") if hasattr(cls, fact)}
    wrong = [fact for fact in ("name", "title", "formula", "paper") if not isinstance(said.get(fact, ""), str)]
    if not said.get("name", "x").isidentifier():
        wrong.append("name")
    if said.get("base", "input") not in ("required", "optional", "input"):
        wrong.append("base")
    if not _is_span(said.get("inputs", (1, None))):
        wrong.append("inputs")
    for fact, kind in (("parameters", Parameter), ("variants", Variant)):
        records = said.get(fact, ())
        if not isinstance(records, tuple) or not all(isinstance(record, kind) for record in records):
            wrong.append(fact)
        elif len({record.name for record in records}) < len(records):
            wrong.append(f"{fact} (a name occurs twice)")
    if wrong:
        raise TypeError(f"merge method {cls.__name__}: {', '.join(wrong)} is not as evomerge.methods.Method describes")


def _is_span(inputs: object) -> bool:
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        return False
    low, high = inputs
    return isinstance(low, int) and low >= 1 and (high is None or (isinstance(high, int) and high >= low))
