"""The known optimizers: by name, checked against a domain, created."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.errors import InvalidInput
from evomerge.optimizers import catcma, cma, cmaes_lra, grid, guided, m2n2, optuna, quasi_random, random
from evomerge.optimizers._levels import LevelOptimizer
from evomerge.optimizers._stages import StageOptimizer
from evomerge.optimizers.core import Optimizer, OptimizerSpec, varied
from evomerge.plugins import Registry
from evomerge.records import Domain, Level, Point, Stage

MAX_NARROWING = 3.0  # of the first step size, from the first level to the others
AUTO = "auto"
OPTUNA = "optuna"
"""Names that stand for another optimizer, so that none may be registered under them."""

OPTIMIZERS: Mapping[str, OptimizerSpec] = {
    spec.name: spec
    for spec in (
        guided.GUIDED,
        cma.CMA,
        cmaes_lra.CMAES_LRA,
        catcma.CATCMA,
        optuna.TPE,
        optuna.NSGA2,
        optuna.NSGA3,
        optuna.GP,
        m2n2.M2N2,
        random.RANDOM,
        quasi_random.QUASI_RANDOM,
        grid.GRID,
    )
}
"""The built-in optimizers by name."""


def _checked(given: object) -> OptimizerSpec:
    if not isinstance(given, OptimizerSpec):
        raise InvalidInput(f"found {type(given).__name__}, expected an evomerge.optimizers.OptimizerSpec")
    return given


REGISTRY = Registry("optimizers", "optimizer", OPTIMIZERS, _checked, reserved=(OPTUNA, AUTO))


def register(spec: OptimizerSpec) -> None:
    """Make an optimizer known in this process. One of the same name that was registered before is replaced.

    Raises:
        InvalidInput: not a spec, or its name is that of a built-in optimizer.
    """
    REGISTRY.register(spec)


def names() -> tuple[str, ...]:
    """Return the names of all optimizers: built-in ones, then registered ones, then those of installed packages."""
    return REGISTRY.names()


def get(name: str) -> OptimizerSpec:
    """Return the spec of an optimizer.

    Raises:
        InvalidInput: no optimizer has this name, or the package that brings it cannot be loaded.
    """
    return REGISTRY.get(name)


def resolve_auto(domain: Domain, objectives: int) -> str:
    """Return the name of the optimizer that `auto` means.

    `catcma` where there are categories or integers, TPE for a single coordinate, which neither it nor CMA-ES can vary;
    otherwise `guided`. The same for several objectives: they maximize the weighted mean, and that is what the pick and
    the verdict are decided by. NSGA-II is never chosen, because it pays off only from about 500 candidates on; ask for
    it by name for a dense front. Without gradients (tasks that generate) and with 600 candidates or more, `cmaes_lra`
    is ahead of `guided` on planted landscapes, not in whole searches. Figures: BENCHMARKS.md, "Optimizers".

    Raises:
        InvalidInput: fewer than one objective.
    """
    if objectives < 1:
        raise InvalidInput(f"{objectives} objectives; expected at least 1")
    if varied(domain) < guided.GUIDED.min_dimensions:
        return optuna.TPE.name
    discrete = max(domain.integers + domain.categories, default=1) > 1
    return catcma.CATCMA.name if discrete else guided.GUIDED.name


def validate_options(name: str, options: Mapping[str, Any], domain: Domain, objectives: int) -> list[str]:
    """Return every problem with an optimizer's name and options for a domain, one sentence each; empty if none."""
    try:
        spec, options = _resolve(name, options, domain, objectives)
    except InvalidInput as error:
        return [str(error)]
    return list(spec.problems(options, domain, objectives))


def create(
    name: str, domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> Optimizer:
    """Create an optimizer.

    Args:
        name: one of `names()`, or "auto", or "optuna" with the option `sampler`.
        domain: what may be varied.
        objectives: number of objectives of the search. The result's own `objectives` says how many values it takes.
        seed: 0 or more; the only source of randomness.
        start: first mean (guided, cma, cmaes_lra, catcma) or first proposal (the others); None: the middle, or nothing.
        options: see `get(name).options`; those that are absent get their defaults.

    Raises:
        InvalidInput: with every problem that `validate_options` finds, or a start outside the domain.
    """
    spec, options = _resolve(name, options, domain, objectives)
    problems = list(spec.problems(options, domain, objectives))
    if seed < 0:
        problems.append(f"seed is {seed}; expected 0 or more")
    if problems:
        raise InvalidInput("\n".join(problems))
    if start is not None:
        domain.check(start)
    optimizer = spec.create(domain, objectives=objectives, seed=seed, start=start, options=spec.with_defaults(options))
    values = 1 if spec.scalar else objectives
    if (optimizer.name, optimizer.objectives) != (spec.name, values):
        raise InvalidInput(
            f"the optimizer {spec.name} calls itself {optimizer.name!r} and takes {optimizer.objectives} values; "
            f"expected {spec.name!r} and {values}, as in its spec"
        )
    return optimizer


def create_by_levels(
    name: str,
    domain: Domain,
    levels: Sequence[Level],
    *,
    seed: int,
    start: Point,
    planned: int,
    options: Mapping[str, Any],
) -> Optimizer:
    """Create an optimizer that goes through the levels of a space, from coarse to fine.

    Args:
        name: as in `create`; of one that has a mean (`goes_by_levels`).
        domain: reals alone.
        levels: the last one is what the search ends with. Those with too few numbers for the optimizer are left out.
        seed: as in `create`.
        start: a point of the domain.
        planned: candidates of the whole search, about: levels end early enough for the last one.
        options: as in `create`; `sigma0` is that of the first level, the others start with the spread reached.

    Raises:
        InvalidInput: see `create`.
    """
    domain.check(start)
    spec, options = _resolve(name, options, domain, 1)
    defaults = spec.with_defaults(options)

    def level(number: int, part: Domain, origin: Point, spread: float | None) -> Optimizer:
        own = dict(options)
        if spread is not None and "sigma0" in defaults:
            own["sigma0"] = min(defaults["sigma0"], max(defaults["sigma0"] / MAX_NARROWING, spread))
        return create(spec.name, part, objectives=1, seed=seed + number, start=origin, options=own)

    wide = [part for part in levels if part.size >= spec.min_dimensions]
    if not wide:
        return create(name, domain, objectives=1, seed=seed, start=start, options=options)
    return LevelOptimizer(domain, wide, level, start=start, planned=planned)


def goes_by_levels(name: str) -> bool:
    """Tell whether an optimizer can go from level to level: it has one value to maximize, and a mean to go on from."""
    spec = get(name)
    return spec.scalar and not spec.compares_generations and not spec.items


def create_by_stages(
    name: str,
    domain: Domain,
    stages: Sequence[Stage],
    *,
    objectives: int,
    seed: int,
    start: Point,
    planned: int,
    options: Mapping[str, Any],
) -> Optimizer:
    """Create an optimizer that varies one part of a point after the other.

    Args:
        name: as for `create`; every stage has one of this name.
        domain: of the points.
        stages: at least one; together they vary every coordinate.
        objectives: as for `create`.
        seed: as for `create`; each stage has a stream of its own.
        start: a point of the domain.
        planned: candidates of the whole search, about.
        options: as for `create`.

    Raises:
        InvalidInput: the optimizer cannot vary a stage, or an option is wrong.
    """
    spec, settled = _resolve(name, options, domain, objectives)

    def create_stage(stage: int, part: Domain, first: Point) -> Optimizer:
        own = int(np.random.SeedSequence([seed, stage]).generate_state(1)[0])
        return create(spec.name, part, objectives=objectives, seed=own, start=first, options=settled)

    return StageOptimizer(domain, stages, create_stage, start=start, planned=planned)


def _resolve(
    name: str, options: Mapping[str, Any], domain: Domain, objectives: int
) -> tuple[OptimizerSpec, Mapping[str, Any]]:
    """Replace the two names that stand for another one."""
    if name == OPTUNA:
        options = dict(options)
        sampler = options.pop(optuna.SAMPLER.name, optuna.SAMPLER.default)
        if problem := optuna.SAMPLER.problem(sampler):
            raise InvalidInput(f"option sampler of optuna {problem}")
        name = optuna.SAMPLERS[sampler]
    elif name == AUTO:
        name = resolve_auto(domain, objectives)
    return get(name), options
