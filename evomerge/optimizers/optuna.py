"""TPE and NSGA-II by Optuna (in-memory study, seeded), for categories and for several objectives at once.

TPE: Watanabe 2023 (https://arxiv.org/abs/2304.11127), the multivariate kernel, with unanswered proposals counted as bad
(constant liar) so that idle workers do not ask for the same place twice. NSGA-II: Deb 2002. Neither has a notion of
generation that fits here, so a generation is simply every `generation_size` proposals, for the sake of item subsets.
"""

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from evomerge.optimizers._pending import PendingProposals
from evomerge.optimizers._protocol import Proposal
from evomerge.records import Domain, Point

_STARTUP = 10
_TPE_GENERATION = 16
_POPULATION = 32
_quiet = threading.Lock()


def _distributions(domain: Domain) -> dict[str, BaseDistribution]:
    """One named parameter per coordinate: r0.., i0.., c0.."""
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


def _study(sampler: optuna.samplers.BaseSampler, objectives: int) -> optuna.Study:
    """Create a study without Optuna's line on stderr; its verbosity is global, so it is put back."""
    with _quiet:
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
        sampler: optuna.samplers.BaseSampler,
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
        self._book = PendingProposals(domain, objectives)

    def ask(self) -> Proposal:
        """Return the next point: an injected one, or what the sampler makes of the answers so far."""
        injected = self._book.next_injected()
        if injected is not None:
            self._study.enqueue_trial(_params(injected))
        trial = self._study.ask(fixed_distributions=self._distributions)
        proposal = self._book.propose(self._book.asked // self.generation_size, _point(self._domain, trial.params))
        assert trial.number == proposal.number, "Optuna and the book count differently"
        return proposal

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal.

        A failure is told as PRUNED, which TPE ranks below every scored trial and NSGA-II leaves out: the region is
        avoided and no penalty is invented. (Told as FAIL, which TPE does not see, it asked for 1.8 times as many
        failing points where most of the cube fails.)
        """
        values = self._book.close(number, values)
        if values is None:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, list(values))

    def inject(self, points: Sequence[Point]) -> None:
        """Propose these points verbatim at the next asks."""
        self._book.inject(points)

    def mean(self) -> Point | None:
        """Return None: there is no distribution."""
        return None


def _seed(seed: int) -> int:
    """Optuna takes 32 bits; hash the rest in instead of cutting it off."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def create_tpe(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `tpe`. Options as in the registry; `start` is the first proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=options.get("startup", _STARTUP),
            multivariate=True,
            constant_liar=True,
            seed=_seed(seed),
        )
    optimizer = OptunaOptimizer(
        "tpe",
        domain,
        sampler,
        objectives=objectives,
        generation_size=options.get("generation_size", _TPE_GENERATION),
    )
    optimizer.inject([start] if start else [])
    return optimizer


def create_nsga2(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> OptunaOptimizer:
    """Build `nsga2`. Options as in the registry; `start` is the first proposal."""
    population = options.get("popsize", _POPULATION)
    optimizer = OptunaOptimizer(
        "nsga2",
        domain,
        optuna.samplers.NSGAIISampler(population_size=population, seed=_seed(seed)),
        objectives=objectives,
        generation_size=population,
    )
    optimizer.inject([start] if start else [])
    return optimizer
