"""Which optimisers there are, what they take, and which one `auto` means. Loads a library only to create one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.records import Domain, Point
from evomerge.search._domain import check_point, varied
from evomerge.search._types import Optimizer

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSpec:
    """One option of an optimiser.

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
    """A registered optimiser.

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
    description="candidates per generation; default 4 + 3 ln(coordinates), more with integers",
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
_SAMPLER = OptionSpec(
    name="sampler",
    kind=str,
    default=AUTO,
    choices=("tpe", "nsga2", AUTO),
    description="which optimiser of Optuna; auto is tpe",
)

OPTIMIZERS: Mapping[str, OptimizerInfo] = {
    info.name: info
    for info in (
        OptimizerInfo(
            name="cma",
            description="CMA-ES (pycma): the default for weights and densities; weighted mean of the objectives",
            target="evomerge.search._cma:create",
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
            target="evomerge.search._cmaes_lra:create",
            options=(_SIGMA0, _POPSIZE),
            scalar=True,
            integers=False,
            categories=False,
            least_varied=2,
        ),
        OptimizerInfo(
            name="tpe",
            description="tree-structured Parzen estimator (Optuna): categories, several objectives, small budgets",
            target="evomerge.search._optuna:create_tpe",
            options=_TPE_OPTIONS,
            scalar=False,
        ),
        OptimizerInfo(
            name="nsga2",
            description="NSGA-II (Optuna): whole fronts, from about 500 candidates on",
            target="evomerge.search._optuna:create_nsga2",
            options=_NSGA2_OPTIONS,
            scalar=False,
        ),
        OptimizerInfo(
            name="random",
            description="uniform random points: a baseline",
            target="evomerge.search._baselines:create_random",
            options=(_GENERATION_SIZE,),
            scalar=False,
        ),
        OptimizerInfo(
            name="quasi_random",
            description="Sobol points (scipy): a baseline that covers low dimensions evenly",
            target="evomerge.search._baselines:create_quasi_random",
            options=(_GENERATION_SIZE,),
            scalar=False,
        ),
    )
}


def resolve_auto(domain: Domain, objectives: int) -> str:
    """Return the optimiser that `auto` means.

    TPE where there are categories or a single coordinate, which CMA-ES cannot vary; otherwise CMA-ES, also for several
    objectives: it maximises their weighted mean, and that is what the pick and the verdict are decided by. NSGA-II is
    never chosen, because it pays off only from about 500 candidates on; ask for it by name for a dense front.
    """
    if objectives < 1:
        raise InvalidInput(f"{objectives} objectives; expected at least 1")
    return "tpe" if domain.categories or varied(domain) < 2 else "cma"


def validate_options(name: str, options: Mapping[str, Any], domain: Domain, objectives: int) -> list[str]:
    """Return every problem with an optimiser's name and options for a domain, one sentence each; empty if none."""
    try:
        info, options = _resolve(name, options, domain, objectives)
    except InvalidInput as error:
        return [str(error)]
    return list(_problems(info, options, domain, objectives))


def create(
    name: str, domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> Optimizer:
    """Create an optimiser.

    Args:
        name: of OPTIMIZERS, or "auto", or "optuna" with the option `sampler`.
        domain: what may be varied.
        objectives: of the search. The result's own `objectives` says how many values it wants to be told.
        seed: 0 or more; the only source of randomness.
        start: first mean (cma, cmaes_lra) or first proposal (the others); None: the middle, or nothing.
        options: see OPTIMIZERS[name].options.

    Raises:
        InvalidInput: with every problem that validate_options finds, or a start outside the domain.
    """
    info, options = _resolve(name, options, domain, objectives)
    problems = list(_problems(info, options, domain, objectives))
    if seed < 0:
        problems.append(f"seed is {seed}; expected 0 or more")
    if problems:
        raise InvalidInput("\n".join(problems))
    if start is not None:
        check_point(domain, start)
    module, function = info.target.split(":")
    build = cast(Callable[..., Optimizer], getattr(import_module(module), function))
    return build(domain, objectives=objectives, seed=seed, start=start, options=dict(options))


def _resolve(
    name: str, options: Mapping[str, Any], domain: Domain, objectives: int
) -> tuple[OptimizerInfo, Mapping[str, Any]]:
    """Replace the two names that stand for another one."""
    if name == "optuna":
        options = dict(options)
        sampler = options.pop("sampler", AUTO)
        if problem := _SAMPLER.problem(sampler):
            raise InvalidInput(f"option sampler of optuna {problem}")
        name = "tpe" if sampler == AUTO else sampler
    elif name == AUTO:
        name = resolve_auto(domain, objectives)
    if name not in OPTIMIZERS:
        known = [*OPTIMIZERS, "optuna", AUTO]
        raise InvalidInput(f"no optimizer is called {name!r}; known: {', '.join(known)}.{did_you_mean(name, known)}")
    return OPTIMIZERS[name], options


def _problems(info: OptimizerInfo, options: Mapping[str, Any], domain: Domain, objectives: int) -> Iterator[str]:
    specs = {spec.name: spec for spec in info.options}
    for option, value in options.items():
        if option not in specs:
            known = ", ".join(specs) or "none"
            yield f"{info.name} has no option {option!r}; known: {known}.{did_you_mean(option, specs)}"
        elif problem := specs[option].problem(value):
            yield f"option {option} of {info.name} {problem}"
    if objectives < 1:
        yield f"{objectives} objectives; expected at least 1"
    if min(domain.integers + domain.categories, default=1) < 1:
        yield "the domain has an integer or category without a single value"
    if domain.categories and not info.categories:
        yield f"{info.name} cannot vary categories; use tpe, or fix the categorical genes"
    if domain.integers and not info.integers:
        yield f"{info.name} cannot vary integers; use cma or tpe, or fix the integer genes"
    if varied(domain) < info.least_varied:
        yield f"{info.name} needs at least {info.least_varied} coordinates to vary, got {varied(domain)}; use tpe"
