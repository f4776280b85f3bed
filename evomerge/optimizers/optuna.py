"""Samplers of Optuna (in-memory study, seeded), for categories and for several objectives at once.

TPE: Watanabe 2023 (https://arxiv.org/abs/2304.11127), the multivariate kernel, with unanswered proposals counted as bad
(constant liar) so that idle workers do not ask for the same place twice. NSGA-II: Deb 2002. NSGA-III: Deb & Jain 2014.
GP: a Gaussian process with log expected (hypervolume) improvement, which costs seconds a proposal after some hundreds.
None has a notion of generation that fits here, so a generation is simply every `generation_size` proposals, for the
sake of item subsets.
"""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.optimizers.core import BEGIN, GENERATION_SIZE, OptimizerSpec, OptionSpec, PendingProposals, Proposal
from evomerge.records import Domain, Point

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

_verbosity_lock = threading.Lock()


def _distributions(domain: Domain) -> "dict[str, BaseDistribution]":
    """Return one named parameter per coordinate: r0.., i0.., c0.."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        **{f"r{k}": FloatDistribution(0.0, 1.0) for k in range(domain.reals)},
        **{f"i{k}": IntDistribution(0, levels - 1) for k, levels in enumerate(domain.integers)},
        **{f"c{k}": CategoricalDistribution(range(options)) for k, options in enumerate(domain.categories)},
    }


def _params(point: Point) -> dict[str, float | int]:
    named = (("r", point.reals), ("i", point.integers), ("c", point.categories))
    return {f"{letter}{k}": value for letter, values in named for k, value in enumerate(values)}


def _point(domain: Domain, params: Mapping[str, Any]) -> Point:
    return Point(
        reals=tuple(float(params[f"r{k}"]) for k in range(domain.reals)),
        integers=tuple(int(params[f"i{k}"]) for k in range(len(domain.integers))),
        categories=tuple(int(params[f"c{k}"]) for k in range(len(domain.categories))),
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna's lines off stderr; its verbosity is global, so it is put back."""
    import optuna

    with _verbosity_lock:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)


def _study(sampler: "optuna.samplers.BaseSampler", objectives: int) -> "optuna.Study":
    import optuna

    with _silent():
        return optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)


class OptunaOptimizer:
    """An Optimizer around an Optuna study. It has no distribution, hence no mean."""

    def __init__(
        self,
        name: str,
        domain: Domain,
        sampler: "optuna.samplers.BaseSampler",
        *,
        objectives: int,
        generation_size: int,
        start: Point | None,
        fails_as_worst: bool = False,
    ) -> None:
        """Start a study.

        Args:
            name: of the optimizer.
            domain: what may be varied.
            sampler: of Optuna, seeded.
            objectives: number of values in an answer.
            generation_size: proposals that share an item subset.
            start: first proposal, or None.
            fails_as_worst: whether a failure counts as the worst value so far: the sampler sees scored ones only.
        """
        self.name = name
        self.objectives = objectives
        self.generation_size = generation_size
        self._domain = domain
        self._distributions = _distributions(domain)
        self._study = _study(sampler, objectives)
        self._pending = PendingProposals(domain, objectives)
        self._pending.inject([start] if start else [])
        self._fails_as_worst = fails_as_worst
        self._worst: tuple[float, ...] | None = None

    def ask(self) -> Proposal:
        """Return the next point: an injected one, or what the sampler makes of the answers so far."""
        injected = self._pending.next_injected()
        if injected is not None:
            self._study.enqueue_trial(_params(injected))
        with _silent():
            trial = self._study.ask(fixed_distributions=self._distributions)
        proposal = self._pending.propose(
            self._pending.asked // self.generation_size, _point(self._domain, trial.params)
        )
        assert trial.number == proposal.number, "Optuna numbers its trials in another way"
        return proposal

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal.

        A failure is reported as PRUNED, which TPE ranks below every scored trial and NSGA-II leaves out: the region is
        avoided and no penalty is invented. (Reported as FAIL, which TPE does not see, it requested 1.8 times as many
        failing points where most of the cube fails.) GP sees scored trials only and gets the worst value so far.
        """
        from optuna.trial import TrialState

        values = self._pending.close(number, values)
        if values is not None:
            self._worst = tuple(map(min, values, self._worst or values))
        elif self._fails_as_worst:
            values = self._worst
        if values is None:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, list(values))

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._pending.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None


def _seed(seed: int) -> int:
    """Optuna takes 32 bits; hash the rest in instead of cutting it off."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def create_tpe(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `tpe`; `start` is the first proposal."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=options["startup"],
            multivariate=True,
            constant_liar=True,
            seed=_seed(seed),
        )
    size = options["generation_size"]
    return OptunaOptimizer(TPE.name, domain, sampler, objectives=objectives, generation_size=size, start=start)


def create_nsga2(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `nsga2`; `start` is the first proposal."""
    from optuna.samplers import NSGAIISampler

    size = options["popsize"]
    sampler = NSGAIISampler(population_size=size, seed=_seed(seed))
    return OptunaOptimizer(NSGA2.name, domain, sampler, objectives=objectives, generation_size=size, start=start)


def create_nsga3(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `nsga3`; `start` is the first proposal."""
    import optuna

    size = options["popsize"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.NSGAIIISampler(population_size=size, seed=_seed(seed))
    return OptunaOptimizer(NSGA3.name, domain, sampler, objectives=objectives, generation_size=size, start=start)


def create_gp(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `gp`; `start` is the first proposal."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(n_startup_trials=options["startup"], seed=_seed(seed))
    return OptunaOptimizer(
        GP.name,
        domain,
        sampler,
        objectives=objectives,
        generation_size=options["generation_size"],
        start=start,
        fails_as_worst=True,
    )


STARTUP = OptionSpec(
    name="startup", kind=int, default=10, low=1, high=100_000, description="random proposals at the start"
)
POPULATION = OptionSpec(
    name="popsize", kind=int, default=32, low=2, high=100_000, description="candidates per generation"
)
TPE = OptimizerSpec(
    name="tpe",
    description="tree-structured Parzen estimator (Optuna): categories, several objectives, small budgets",
    create=create_tpe,
    informed=True,
    options=(BEGIN, STARTUP, GENERATION_SIZE),
)
NSGA2 = OptimizerSpec(
    name="nsga2",
    description="NSGA-II (Optuna): whole fronts, from about 500 candidates on",
    create=create_nsga2,
    informed=True,
    options=(BEGIN, POPULATION),
)
NSGA3 = OptimizerSpec(
    name="nsga3",
    description="NSGA-III (Optuna): whole fronts of three objectives or more, from about 500 candidates on",
    create=create_nsga3,
    informed=True,
    options=(BEGIN, POPULATION),
)
GP = OptimizerSpec(
    name="gp",
    description="Gaussian process (Optuna): few coordinates, at most some 200 expensive candidates",
    create=create_gp,
    informed=True,
    options=(BEGIN, STARTUP, GENERATION_SIZE),
)
SAMPLERS: Mapping[str, str] = {
    **{spec.name: spec.name for spec in (TPE, NSGA2, NSGA3, GP)},
    "qmc": "quasi_random",
    "random": "random",
    "auto": TPE.name,
}
"""Option `sampler` of the name `optuna` -> the optimizer that it means; Optuna's own qmc is scipy's Sobol, too."""
SAMPLER = OptionSpec(
    name="sampler",
    kind=str,
    default="auto",
    choices=tuple(SAMPLERS),
    description="which sampler; auto is tpe",
)
"""The option of the name `optuna`, which means one of these."""
