"""The optimizers there are and the options they take, as data; nothing here loads a library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option of an optimizer.

    kind: type of the value (an int is also a float). low, high: inclusive bounds. choices: of a str.
    default: as shown to people; None = the library's own rule, which `description` names.
    """

    name: str
    kind: type
    description: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, as the end of a sentence, or None."""
        if self.choices:
            return None if value in self.choices else f"is {value!r}; expected one of {', '.join(self.choices)}"
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            return f"is {value!r}; expected {_NOUNS[self.kind]}"
        low, high = self.low, self.high
        if (low is not None and not value >= low) or (high is not None and not value <= high):  # type: ignore[operator]
            bounds = f"{low:g} or more" if high is None else f"from {low:g} to {high:g}"
            return f"is {value!r}; expected {_NOUNS[self.kind]} {bounds}"
        return None


_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerInfo:
    """A registered optimizer.

    target: "module:function" that creates it. scalar: takes one value, whatever the number of objectives.
    integers, categories: whether it has such coordinates. least_varied: coordinates it needs at least.
    """

    name: str
    description: str
    target: str
    options: tuple[OptionSpec, ...]
    scalar: bool
    integers: bool = True
    categories: bool = True
    least_varied: int = 1


_SIGMA0 = OptionSpec(
    name="sigma0", kind=float, default=0.2, low=1e-6, high=1.0, description="first step size; a range is 1 wide"
)
_POPSIZE = OptionSpec(
    name="popsize",
    kind=int,
    low=4,
    high=100_000,
    description="candidates per generation; default 4 + 3 ln(coordinates)",
)
_GENERATION_SIZE = OptionSpec(
    name="generation_size",
    kind=int,
    default=16,
    low=1,
    high=100_000,
    description="proposals that share an item subset",
)
_TPE_OPTIONS = (
    OptionSpec(name="startup", kind=int, default=10, low=1, high=100_000, description="random proposals at the start"),
    _GENERATION_SIZE,
)
_NSGA2_OPTIONS = (
    OptionSpec(name="popsize", kind=int, default=32, low=2, high=100_000, description="candidates per generation"),
)
SAMPLER = OptionSpec(
    name="sampler",
    kind=str,
    default=AUTO,
    choices=("tpe", "nsga2", AUTO),
    description="which optimizer of Optuna; auto is tpe",
)

OPTIMIZERS: Mapping[str, OptimizerInfo] = {
    info.name: info
    for info in (
        OptimizerInfo(
            name="cma",
            description="CMA-ES (pycma): the default for weights and densities; weighted mean of the objectives",
            target="evomerge.optimizers.cma:create",
            options=(
                _SIGMA0,
                _POPSIZE,
                OptionSpec(
                    name="tolx", kind=float, default=1e-5, low=0.0, high=1.0, description="restart below this step size"
                ),
                OptionSpec(
                    name="diagonal",
                    kind=bool,
                    default=False,
                    description="adapt each coordinate by itself; learns faster with hundreds of them",
                ),
            ),
            scalar=True,
            categories=False,
            least_varied=2,
        ),
        OptimizerInfo(
            name="cmaes_lra",
            description="CMA-ES with learning-rate adaptation (cmaes): for very noisy scores; weighted mean",
            target="evomerge.optimizers.cmaes_lra:create",
            options=(_SIGMA0, _POPSIZE),
            scalar=True,
            integers=False,
            categories=False,
            least_varied=2,
        ),
        OptimizerInfo(
            name="tpe",
            description="tree-structured Parzen estimator (Optuna): categories, several objectives, small budgets",
            target="evomerge.optimizers.optuna:create_tpe",
            options=_TPE_OPTIONS,
            scalar=False,
        ),
        OptimizerInfo(
            name="nsga2",
            description="NSGA-II (Optuna): whole fronts, from about 500 candidates on",
            target="evomerge.optimizers.optuna:create_nsga2",
            options=_NSGA2_OPTIONS,
            scalar=False,
        ),
        OptimizerInfo(
            name="random",
            description="uniform random points: a baseline",
            target="evomerge.optimizers.random:create_random",
            options=(_GENERATION_SIZE,),
            scalar=False,
        ),
        OptimizerInfo(
            name="quasi_random",
            description="Sobol points (scipy): a baseline that covers low dimensions evenly",
            target="evomerge.optimizers.random:create_quasi_random",
            options=(_GENERATION_SIZE,),
            scalar=False,
        ),
    )
}
