"""Every registered optimizer keeps the shipped contract, on every kind of domain it accepts."""

from typing import Any

from evomerge.optimizers import OPTIMIZERS, Optimizer, create
from evomerge.records import Domain
from evomerge.testing.optimizers import OptimizerContract

_MIXED = Domain(reals=3, integers=(5, 1, 2))
_ALL_KINDS = Domain(reals=2, integers=(4,), categories=(3, 1))


class _Registered(OptimizerContract):
    name = ""
    options: dict[str, Any] = {}  # noqa: RUF012

    def create(self, seed: int) -> Optimizer:
        return create(
            self.name, self.domain, objectives=self.objectives, seed=seed, start=None, options=dict(self.options)
        )


class TestCma(_Registered):
    name = "cma"


class TestCmaWithIntegers(_Registered):
    name = "cma"
    domain = _MIXED


class TestCmaDiagonal(_Registered):
    name = "cma"
    options = {"diagonal": True, "popsize": 6, "sigma0": 0.3}  # noqa: RUF012


class TestGuided(_Registered):
    name = "guided"


class TestGuidedWithIntegers(_Registered):
    name = "guided"
    domain = _MIXED


class TestCmaesLra(_Registered):
    name = "cmaes_lra"


class TestTpe(_Registered):
    name = "tpe"
    domain = _ALL_KINDS
    budget = 100


class TestTpeWithTwoObjectives(_Registered):
    name = "tpe"
    domain = _ALL_KINDS
    objectives = 2
    options = {"startup": 5, "generation_size": 8}  # noqa: RUF012


class TestNsga2(_Registered):
    name = "nsga2"
    domain = _ALL_KINDS
    options = {"popsize": 12}  # noqa: RUF012


class TestNsga2WithThreeObjectives(_Registered):
    name = "nsga2"
    objectives = 3
    options = {"popsize": 8}  # noqa: RUF012


class TestNsga3WithThreeObjectives(_Registered):
    name = "nsga3"
    domain = _ALL_KINDS
    objectives = 3
    options = {"popsize": 8}  # noqa: RUF012


class TestGp(_Registered):
    name = "gp"
    domain = _ALL_KINDS
    budget = 146
    options = {"startup": 140, "generation_size": 4}  # noqa: RUF012 - a proposal of the process itself takes half a second


class TestCatcma(_Registered):
    name = "catcma"
    domain = _ALL_KINDS


class TestCatcmaWithIntegers(_Registered):
    name = "catcma"
    domain = _MIXED


class TestCatcmaWithChoicesAlone(_Registered):
    name = "catcma"
    domain = Domain(integers=(2, 1, 2), categories=(4, 3, 2, 2, 1, 3, 3))


class TestM2n2(_Registered):
    name = "m2n2"
    domain = _ALL_KINDS
    budget = 400


class TestM2n2WithReals(_Registered):
    name = "m2n2"
    options = {"archive": 8, "noise": 0.05}  # noqa: RUF012


class TestGrid(_Registered):
    name = "grid"
    domain = Domain(reals=1, categories=(3,))
    objectives = 2
    learns = False


class TestRandom(_Registered):
    name = "random"
    domain = _ALL_KINDS
    objectives = 2
    learns = False


class TestQuasiRandom(_Registered):
    name = "quasi_random"
    domain = _ALL_KINDS
    learns = False


def test_every_registered_optimizer_is_tested() -> None:
    tested = {cls.name for cls in _Registered.__subclasses__()}
    assert tested == set(OPTIMIZERS)
