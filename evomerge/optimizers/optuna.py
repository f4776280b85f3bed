"""TPE and NSGA-II by Optuna (in-memory study, seeded), for categories and for several objectives at once.

TPE: Watanabe 2023 (https://arxiv.org/abs/2304.11127), the multivariate kernel, with unanswered proposals counted as bad
(constant liar) so that idle workers do not ask for the same place twice. NSGA-II: Deb 2002. Neither has a notion of
generation that fits here, so a generation is simply every `generation_size` proposals, for the sake of item subsets.
"""

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.optimizers._pending import PendingProposals
from evomerge.optimizers._protocol import Proposal
from evomerge.optimizers._spec import GENERATION_SIZE, OptimizerSpec, OptionSpec
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


def _study(sampler: "optuna.samplers.BaseSampler", objectives: int) -> "optuna.Study":
    """Create a study without Optuna's line on stderr; its verbosity is global, so it is put back."""
    import optuna

    with _verbosity_lock:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)
        finally:
            optuna.logging.set_verbosity(verbosity)


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
    ) -> None:
        self.name = name
        self.objectives = objectives
        self.generation_size = generation_size
        self._domain = domain
        self._distributions = _distributions(domain)
        self._study = _study(sampler, objectives)
        self._pending = PendingProposals(domain, objectives)

    def ask(self) -> Proposal:
        """Return the next point: an injected one, or what the sampler makes of the answers so far."""
        injected = self._pending.next_injected()
        if injected is not None:
            self._study.enqueue_trial(_params(injected))
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
        failing points where most of the cube fails.)
        """
        from optuna.trial import TrialState

        values = self._pending.close(number, values)
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
    optimizer = OptunaOptimizer(
        TPE.name, domain, sampler, objectives=objectives, generation_size=options["generation_size"]
    )
    optimizer.inject([start] if start else [])
    return optimizer


def create_nsga2(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `nsga2`; `start` is the first proposal."""
    from optuna.samplers import NSGAIISampler

    population = options["popsize"]
    optimizer = OptunaOptimizer(
        NSGA2.name,
        domain,
        NSGAIISampler(population_size=population, seed=_seed(seed)),
        objectives=objectives,
        generation_size=population,
    )
    optimizer.inject([start] if start else [])
    return optimizer


TPE = OptimizerSpec(
    name="tpe",
    description="tree-structured Parzen estimator (Optuna): categories, several objectives, small budgets",
    create=create_tpe,
    options=(
        OptionSpec(
            name="startup", kind=int, default=10, low=1, high=100_000, description="random proposals at the start"
        ),
        GENERATION_SIZE,
    ),
)
NSGA2 = OptimizerSpec(
    name="nsga2",
    description="NSGA-II (Optuna): whole fronts, from about 500 candidates on",
    create=create_nsga2,
    options=(
        OptionSpec(name="popsize", kind=int, default=32, low=2, high=100_000, description="candidates per generation"),
    ),
)
SAMPLER = OptionSpec(
    name="sampler",
    kind=str,
    default="auto",
    choices=(TPE.name, NSGA2.name, "auto"),
    description="which optimizer of Optuna; auto is tpe",
)
"""The option of the name `optuna`, which means one of the two."""
