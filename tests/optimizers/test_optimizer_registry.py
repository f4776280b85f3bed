"""Names, options, `auto`, and that nothing heavy is imported before it is needed."""

import os
import subprocess
import sys
from typing import Any

import pytest

from evomerge.errors import InvalidInput
from evomerge.optimizers import (
    OPTIMIZERS,
    create,
    resolve_auto,
    validate_options,
)
from evomerge.records import Domain

_REAL = Domain(reals=3)
_CATEGORIES = Domain(reals=3, categories=(2,))


def test_importing_the_room_loads_no_optimizer_library() -> None:
    code = (
        "import sys, evomerge.optimizers, evomerge.stats; evomerge.optimizers.validate_options('tpe', {}, "
        "evomerge.optimizers._domain.Domain(reals=2), 1); "
        "print([m for m in ('torch', 'cma', 'cmaes', 'optuna', 'scipy', 'pytest') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_auto() -> None:
    assert resolve_auto(_REAL, 1) == resolve_auto(_REAL, 3) == resolve_auto(Domain(reals=1, integers=(3,)), 1) == "cma"
    assert resolve_auto(_CATEGORIES, 1) == "tpe"
    assert resolve_auto(Domain(reals=1), 1) == resolve_auto(Domain(reals=1, integers=(1,)), 1) == "tpe"
    for domain in (_REAL, _CATEGORIES, Domain(reals=1)):
        assert create("auto", domain, objectives=2, seed=0, start=None, options={}).name == resolve_auto(domain, 2)


@pytest.mark.parametrize(
    ("options", "name"), [({}, "tpe"), ({"sampler": "auto"}, "tpe"), ({"sampler": "nsga2"}, "nsga2")]
)
def test_optuna_is_another_name(options: dict[str, Any], name: str) -> None:
    assert validate_options("optuna", options, _CATEGORIES, 2) == []
    optimizer = create("optuna", _CATEGORIES, objectives=2, seed=0, start=None, options=options)
    assert (optimizer.name, optimizer.objectives) == (name, 2)


def test_scalar_optimizers_take_one_value_however_many_objectives() -> None:
    for name, info in OPTIMIZERS.items():
        optimizer = create(name, _REAL, objectives=3, seed=0, start=None, options={})
        assert optimizer.objectives == (1 if info.scalar else 3) and optimizer.name == name


@pytest.mark.parametrize(
    ("name", "options", "domain", "words"),
    [
        ("cmo", {}, _REAL, ["'cmo'", 'Did you mean "cma"']),
        ("cma", {"sigma": 0.3}, _REAL, ["no option 'sigma'", 'Did you mean "sigma0"']),
        ("cma", {"sigma0": "0.3"}, _REAL, ["sigma0", "'0.3'", "a number"]),
        ("cma", {"sigma0": float("nan")}, _REAL, ["sigma0", "nan"]),
        ("cma", {"popsize": 2}, _REAL, ["popsize", "2", "from 4"]),
        ("cma", {"popsize": True}, _REAL, ["popsize", "True", "whole number"]),
        ("cma", {"popsize": 8.0}, _REAL, ["popsize", "8.0", "whole number"]),
        ("cma", {"diagonal": 1}, _REAL, ["diagonal", "true or false"]),
        ("cma", {}, _CATEGORIES, ["categories", "tpe"]),
        ("cma", {}, Domain(reals=1), ["at least 2", "got 1"]),
        ("cmaes_lra", {}, Domain(reals=2, integers=(3,)), ["integers"]),
        ("optuna", {"sampler": "gp"}, _REAL, ["sampler", "'gp'", "tpe, nsga2, auto"]),
        ("random", {}, Domain(), ["at least 1", "got 0"]),
        ("tpe", {}, Domain(reals=1, categories=(0,)), ["without a single value"]),
    ],
)
def test_problems_are_told_alike_by_validate_and_create(
    name: str, options: dict[str, Any], domain: Domain, words: list[str]
) -> None:
    problems = validate_options(name, options, domain, 1)
    assert len(problems) == 1 and all(word in problems[0] for word in words), problems
    with pytest.raises(InvalidInput) as error:
        create(name, domain, objectives=1, seed=0, start=None, options=options)
    assert str(error.value) == problems[0]


def test_every_problem_is_told_at_once() -> None:
    problems = validate_options("cma", {"sigma": 1, "popsize": 0}, _CATEGORIES, 0)
    assert len(problems) == 4


def test_documented_defaults_are_the_real_ones() -> None:
    """Passing every default explicitly changes no point."""
    for name, info in OPTIMIZERS.items():
        defaults = {spec.name: spec.default for spec in info.options if spec.default is not None}
        assert validate_options(name, defaults, _REAL, 1) == []
        plain, explicit = (create(name, _REAL, objectives=1, seed=0, start=None, options=o) for o in ({}, defaults))
        for _ in range(40):
            first, second = plain.ask(), explicit.ask()
            assert first == second
            for optimizer in (plain, explicit):
                optimizer.tell(first.number, (-sum(first.point.reals),))


def test_create_changes_none_of_its_inputs_and_refuses_a_negative_seed() -> None:
    options = {"sampler": "tpe", "startup": 5}
    create("optuna", _REAL, objectives=1, seed=2**70, start=None, options=options)
    assert options == {"sampler": "tpe", "startup": 5}
    with pytest.raises(ValueError, match="seed"):
        create("cma", _REAL, objectives=1, seed=-1, start=None, options={})
