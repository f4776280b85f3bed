"""Names, options, `auto`, and that nothing heavy is imported before it is needed."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evomerge import optimizers
from evomerge.errors import InvalidInput
from evomerge.optimizers import (
    OPTIMIZERS,
    Optimizer,
    OptimizerSpec,
    OptionSpec,
    create,
    resolve_auto,
    validate_options,
)
from evomerge.records import Domain, Point
from tests.forked import run_program

_REAL = Domain(reals=3)
_CATEGORIES = Domain(reals=3, categories=(2,))


def test_neither_importing_nor_validating_loads_an_optimizer_library() -> None:
    code = (
        "import sys, evomerge.optimizers, evomerge.stats; from evomerge.records import Domain; "
        "[evomerge.optimizers.validate_options(n, {}, Domain(reals=2), 1) for n in evomerge.optimizers.names()]; "
        "print([m for m in ('torch', 'cma', 'cmaes', 'optuna', 'scipy', 'pytest') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_auto() -> None:
    assert resolve_auto(_REAL, 1) == resolve_auto(_REAL, 3) == resolve_auto(Domain(reals=2, integers=(1,)), 1)
    assert resolve_auto(_REAL, 1) == "guided"
    for domain in (_CATEGORIES, Domain(integers=(3, 4)), Domain(reals=1, integers=(3,)), Domain(categories=(2, 2))):
        assert resolve_auto(domain, 1) == "catcma"
    assert resolve_auto(Domain(reals=1), 1) == resolve_auto(Domain(reals=1, integers=(1,)), 1) == "tpe"
    for domain in (_REAL, _CATEGORIES, Domain(reals=1)):
        assert create("auto", domain, objectives=2, seed=0, start=None, options={}).name == resolve_auto(domain, 2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "tpe"),
        ({"sampler": "auto"}, "tpe"),
        ({"sampler": "nsga2"}, "nsga2"),
        ({"sampler": "nsga3"}, "nsga3"),
        ({"sampler": "gp"}, "gp"),
        ({"sampler": "qmc"}, "quasi_random"),
        ({"sampler": "random"}, "random"),
    ],
)
def test_optuna_is_another_name(options: dict[str, Any], name: str) -> None:
    assert validate_options("optuna", options, _CATEGORIES, 2) == []
    optimizer = create("optuna", _CATEGORIES, objectives=2, seed=0, start=None, options=options)
    assert (optimizer.name, optimizer.objectives) == (name, 2)


def test_scalar_optimizers_take_one_value_however_many_objectives() -> None:
    for name, spec in OPTIMIZERS.items():
        domain = Domain(reals=spec.max_dimensions or 3)
        optimizer = create(name, domain, objectives=3, seed=0, start=None, options={})
        assert optimizer.objectives == (1 if spec.scalar else 3) and optimizer.name == name


@pytest.mark.parametrize(
    ("name", "options", "domain", "words"),
    [
        ("cmo", {}, _REAL, ['"cmo"', 'Did you mean "cma"']),
        ("cma", {"sigma": 0.3}, _REAL, ["no option 'sigma'", 'Did you mean "sigma0"']),
        ("cma", {"sigma0": "0.3"}, _REAL, ["sigma0", "'0.3'", "a number"]),
        ("cma", {"sigma0": float("nan")}, _REAL, ["sigma0", "nan"]),
        ("cma", {"popsize": 2}, _REAL, ["popsize", "2", "from 4"]),
        ("cma", {"popsize": True}, _REAL, ["popsize", "True", "whole number"]),
        ("cma", {"popsize": 8.0}, _REAL, ["popsize", "8.0", "whole number"]),
        ("cma", {"diagonal": 1}, _REAL, ["diagonal", "true or false"]),
        ("cma", {}, _CATEGORIES, ["categories", "tpe"]),
        ("cma", {}, Domain(reals=1), ["at least 2", "got 1"]),
        ("grid", {}, _REAL, ["at most 2", "got 3"]),
        ("cmaes_lra", {}, Domain(reals=2, integers=(3,)), ["integers"]),
        ("optuna", {"sampler": "gpp"}, _REAL, ["sampler", "'gpp'", "tpe, nsga2, nsga3, gp, qmc, random, auto"]),
        ("random", {}, Domain(), ["at least 1", "got 0"]),
        ("tpe", {}, Domain(reals=1, categories=(0,)), ["without a single value"]),
    ],
)
def test_the_same_problems_come_from_validate_and_create(
    name: str, options: dict[str, Any], domain: Domain, words: list[str]
) -> None:
    problems = validate_options(name, options, domain, 1)
    assert len(problems) == 1 and all(word in problems[0] for word in words), problems
    with pytest.raises(InvalidInput) as error:
        create(name, domain, objectives=1, seed=0, start=None, options=options)
    assert str(error.value) == problems[0]


def test_every_problem_comes_at_once() -> None:
    problems = validate_options("cma", {"sigma": 1, "popsize": 0}, _CATEGORIES, 0)
    assert len(problems) == 4


def test_giving_every_default_changes_no_point() -> None:
    for name, spec in OPTIMIZERS.items():
        defaults = {option.name: option.default for option in spec.options if option.default is not None}
        domain = Domain(reals=spec.max_dimensions or 3)
        assert validate_options(name, defaults, domain, 1) == []
        plain, explicit = (create(name, domain, objectives=1, seed=0, start=None, options=o) for o in ({}, defaults))
        for _ in range(15 if name == "gp" else 40):
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


# -- optimizers from elsewhere ----------------------------------------------------------------------------------------


def create_mine(
    domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]
) -> Optimizer:
    seen.append(dict(options))
    optimizer = create("random", domain, objectives=objectives, seed=seed, start=start, options={})
    optimizer.name = options["called"]  # type: ignore[misc]
    return optimizer


seen: list[dict[str, Any]] = []
MINE = OptimizerSpec(
    name="mine",
    description="a test's",
    create=create_mine,
    options=(
        OptionSpec(name="called", kind=str, default="mine", description="its name"),
        OptionSpec(name="size", kind=int, low=1, description="the library's own"),
    ),
)


def test_a_registered_optimizer_is_known_by_name_and_gets_every_option() -> None:
    optimizers.register(MINE)
    optimizers.register(MINE)  # notebooks run a cell again
    assert optimizers.names()[: len(OPTIMIZERS) + 1] == (*OPTIMIZERS, "mine") and optimizers.get("mine") is MINE
    assert create("mine", _REAL, objectives=2, seed=0, start=None, options={"size": 3}).name == "mine"
    assert seen[-1] == {"called": "mine", "size": 3}
    assert "Did you mean" in validate_options("mime", {}, _REAL, 1)[0]
    assert "size of mine is 0; expected a whole number 1 or more" in validate_options("mine", {"size": 0}, _REAL, 1)[0]


def test_an_optimizer_that_is_not_what_its_spec_says_is_refused() -> None:
    optimizers.register(MINE)
    with pytest.raises(InvalidInput, match="calls itself 'other'"):
        create("mine", _REAL, objectives=1, seed=0, start=None, options={"called": "other"})


@pytest.mark.parametrize("name", ["cma", "auto", "optuna"])
def test_a_name_of_ours_cannot_be_registered(name: str) -> None:
    with pytest.raises(InvalidInput, match="choose another name"):
        optimizers.register(OptimizerSpec(name=name, description="", create=create_mine))
    with pytest.raises(InvalidInput, match=r"found str, expected an evomerge\.optimizers\.OptimizerSpec"):
        optimizers.register(name)  # type: ignore[arg-type]


_PACKAGE = """
from evomerge.optimizers import OptimizerSpec, get
SPEC = OptimizerSpec(name="installed", description="", create=get("random").create, options=get("random").options)
"""
_ENTRY_POINTS = """
[evomerge.optimizers]
installed = outside_package:SPEC
renamed = outside_package:SPEC
broken = no_such_module:SPEC
cma = outside_package:SPEC
"""
_USE = """
from evomerge import optimizers
from evomerge.records import Domain
print(optimizers.names()[-3:], optimizers.get("cma") is optimizers.OPTIMIZERS["cma"], optimizers.get("installed").name)
for name in ("renamed", "broken"):
    print(optimizers.validate_options(name, {}, Domain(reals=2), 1)[0])
"""


def test_installed_packages_bring_optimizers(tmp_path: Path) -> None:
    (tmp_path / "outside_package.py").write_text(_PACKAGE)
    metadata = tmp_path / "outside_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    known, renamed, broken = run_program(_USE, environment={"PYTHONPATH": str(tmp_path)}).splitlines()
    assert known == "('broken', 'installed', 'renamed') True installed"
    assert 'names itself "installed", and the names must be equal' in renamed
    assert "outside-package" in broken and "no_such_module" in broken


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "two words"}, "letters, digits and underscores"),
        ({"create": None}, "expected a function"),
        ({"options": MINE.options * 2}, "an option twice"),
    ],
)
def test_a_spec_that_cannot_work_is_an_error_at_its_definition(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        OptimizerSpec(**{"name": "mine", "description": "", "create": create_mine, **changes})


def test_a_default_that_is_no_valid_value_is_an_error_at_its_definition() -> None:
    with pytest.raises(InvalidInput, match="the default of option size is 0"):
        OptionSpec(name="size", kind=int, default=0, low=1, description="")
    with pytest.raises(InvalidInput, match="expected int, float, bool or str"):
        OptionSpec(name="size", kind=list, description="")
