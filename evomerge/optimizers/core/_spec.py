"""The record of an optimizer: its name, its options with their defaults, and how it is created."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.optimizers.core._domain import varied
from evomerge.optimizers.core._protocol import Optimizer
from evomerge.records import Domain, Point

_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option of an optimizer.

    Attributes:
        name: in the search file.
        kind: type of the value: int, float (an int is one too), bool or str.
        description: a few words for people; what the library's own rule is, where `default` is None.
        default: the value where the user gives none. None: the library's own rule.
        low: least value, included; None: no bound.
        high: greatest value, included; None: no bound.
        choices: of a str, the words it may be.
    """

    name: str
    kind: type
    description: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _NOUNS:
            raise InvalidInput(f"option {self.name} is of kind {self.kind!r}; expected int, float, bool or str")
        if self.default is not None and (problem := self.problem(self.default)):
            raise InvalidInput(f"the default of option {self.name} {problem}")

    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, as the end of a sentence, or None."""
        if self.choices:
            return None if value in self.choices else f"is {value!r}; expected one of {', '.join(self.choices)}"
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            return f"is {value!r}; expected {_NOUNS[self.kind]}"
        low, high = self.low, self.high
        if (low is not None and not value >= low) or (high is not None and not value <= high):  # type: ignore[operator]
            bounds = f"{low:g} or more" if high is None else f"from {low:g} to {high:g}" if low is not None else ""
            return f"is {value!r}; expected {_NOUNS[self.kind]} {bounds or f'up to {high:g}'}"
        return None


class CreateOptimizer(Protocol):
    """How an optimizer is created; a plain function with these parameters."""

    def __call__(
        self, domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
    ) -> Optimizer:
        """Return a fresh optimizer.

        Args:
            domain: what may be varied; one that the spec accepts.
            objectives: number of objectives of the search, at least 1.
            seed: 0 or more; the only source of randomness.
            start: first mean or first proposal, a point of the domain; None: the optimizer's own choice.
            options: every option of the spec, checked, with the spec's default where the user gave no value.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """An optimizer that a search file can name.

    Importing the module that holds a spec should load no heavy library: `create` imports it. What `create` returns
    keeps the contract of `Optimizer`, of which resuming depends on one part: **it is a function of its arguments and
    of the calls it has seen**. A run is resumed by creating the optimizer anew with the same arguments and repeating
    the recorded ask, tell and inject calls; every ask must then return the point that it returned before. Hence no
    clock, no global random state, no order of a set, no number of threads may decide a point. Subclass
    `evomerge.testing.optimizers.OptimizerContract` to check it.

    Attributes:
        name: in the search file, and the `name` of what `create` returns.
        description: one line for people: the algorithm, whose it is, when to choose it.
        create: builds the optimizer; see `CreateOptimizer`.
        options: what the user may set.
        scalar: takes one value, the weighted mean, whatever the number of objectives of the search.
        compares_generations: compares values across generations. Their item subsets differ in difficulty, so the
            difficulty offset of the subset is added to the values; an optimizer that only ranks the candidates
            of one generation needs none.
        informed: whether it waits for the references and starts at the best of those that the space contains, unless
            its option `begin` says otherwise. One that ranks within generations is given what soft scores predict, too,
            where there are any, not plain scores.
        gradients: whether what `create` returns is a `GradientOptimizer`.
        items: whether what `create` returns is an `ItemOptimizer`.
        integers: whether it varies integers.
        categories: whether it varies unordered choices.
        min_dimensions: least number of coordinates with more than one value.
        max_dimensions: largest number of them; None: no bound.
    """

    name: str
    description: str
    create: CreateOptimizer
    options: tuple[OptionSpec, ...] = ()
    scalar: bool = False
    compares_generations: bool = True
    informed: bool = False
    gradients: bool = False
    items: bool = False
    integers: bool = True
    categories: bool = True
    min_dimensions: int = 1
    max_dimensions: int | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InvalidInput(f"an optimizer is called {self.name!r}; expected letters, digits and underscores")
        if not callable(self.create):
            raise InvalidInput(f"create of the optimizer {self.name} is {self.create!r}; expected a function")
        names = [option.name for option in self.options]
        if len(set(names)) < len(names):
            raise InvalidInput(f"the optimizer {self.name} has an option twice: {', '.join(names)}")

    def with_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every option: the given one, else its default."""
        return {option.name: options.get(option.name, option.default) for option in self.options}

    def waits_for_references(self, options: Mapping[str, Any]) -> bool:
        """Tell whether it is informed with these options."""
        return self.informed and options.get(BEGIN.name) != _SPACE

    def problems(self, options: Mapping[str, Any], domain: Domain, objectives: int) -> Iterator[str]:
        """Yield everything wrong with options for a domain and a number of objectives, a sentence each."""
        specs = {option.name: option for option in self.options}
        for option, value in options.items():
            if option not in specs:
                known = ", ".join(specs) or "none"
                yield f"{self.name} has no option {option!r}; known: {known}.{did_you_mean(option, specs)}"
            elif problem := specs[option].problem(value):
                yield f"option {option} of {self.name} {problem}"
        if objectives < 1:
            yield f"{objectives} objectives; expected at least 1"
        if min(domain.integers + domain.categories, default=1) < 1:
            yield "the domain has an integer or category without a single value"
        if domain.categories and not self.categories:
            yield f"{self.name} cannot vary categories; use catcma or tpe, or fix the categorical genes"
        if domain.integers and not self.integers:
            yield f"{self.name} cannot vary integers; use catcma or tpe, or fix the integer genes"
        dimensions = varied(domain)
        if dimensions < self.min_dimensions:
            hint = "; use tpe" if dimensions else ": the space varies nothing"
            yield f"{self.name} needs at least {self.min_dimensions} coordinates to vary, got {dimensions}{hint}"
        if self.max_dimensions is not None and dimensions > self.max_dimensions:
            yield f"{self.name} takes at most {self.max_dimensions} coordinates to vary, got {dimensions}; use auto"


_SPACE = "space"
BEGIN = OptionSpec(
    name="begin",
    kind=str,
    default="best_reference",
    choices=("best_reference", _SPACE),
    description="where the search begins: at the best reference that the space contains, or where the space says",
)
BEGIN_AT_SPACE = {BEGIN.name: _SPACE}
"""Options of an informed optimizer that is not to be one."""
SIGMA0 = OptionSpec(
    name="sigma0", kind=float, default=0.2, low=1e-6, high=1.0, description="first step size; a range is 1 wide"
)
POPSIZE = OptionSpec(
    name="popsize",
    kind=int,
    low=4,
    high=100_000,
    description="candidates per generation; default 4 + 3 ln(coordinates)",
)
GENERATION_SIZE = OptionSpec(
    name="generation_size",
    kind=int,
    default=16,
    low=1,
    high=100_000,
    description="proposals that share an item subset",
)
