"""From a name and options to an optimizer, or to what is wrong with them. Loads a library only to create one."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

from evomerge.errors import InvalidInput, did_you_mean
from evomerge.optimizers._catalog import (
    AUTO,
    OPTIMIZERS,
    SAMPLER,
    OptimizerInfo,
)
from evomerge.optimizers._domain import check_point, varied
from evomerge.optimizers._protocol import Optimizer
from evomerge.records import Domain, Point


def resolve_auto(domain: Domain, objectives: int) -> str:
    """Return the optimizer that `auto` means.

    TPE where there are categories or a single coordinate, which CMA-ES cannot vary; otherwise CMA-ES, also for several
    objectives: it maximizes their weighted mean, and that is what the pick and the verdict are decided by. NSGA-II is
    never chosen, because it pays off only from about 500 candidates on; ask for it by name for a dense front.
    """
    if objectives < 1:
        raise InvalidInput(f"{objectives} objectives; expected at least 1")
    return "tpe" if domain.categories or varied(domain) < 2 else "cma"


def validate_options(name: str, options: Mapping[str, Any], domain: Domain, objectives: int) -> list[str]:
    """Return every problem with an optimizer's name and options for a domain, one sentence each; empty if none."""
    try:
        info, options = _resolve(name, options, domain, objectives)
    except InvalidInput as error:
        return [str(error)]
    return list(_problems(info, options, domain, objectives))


def create(
    name: str, domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> Optimizer:
    """Create an optimizer.

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
        if problem := SAMPLER.problem(sampler):
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
        hint = "; use tpe" if varied(domain) else ": the space varies nothing"
        yield f"{info.name} needs at least {info.least_varied} coordinates to vary, got {varied(domain)}{hint}"
