"""What Optuna is told: failures, kinds of coordinates, silence, and sameness across processes."""

import os
import subprocess
import sys
from typing import Any

import pytest

from evomerge.optimizers import Optimizer, create
from evomerge.records import Domain, Point

_DOMAIN = Domain(reals=2, integers=(4,), categories=(3,))


def make(name: str, domain: Domain = _DOMAIN, objectives: int = 1, seed: int = 0, **options: Any) -> Optimizer:
    return create(name, domain, objectives=objectives, seed=seed, start=None, options=options)


def score(point: Point) -> float:
    return -sum((x - 0.3) ** 2 for x in point.reals) - 0.1 * abs(point.integers[0] - 2) - (point.categories[0] != 1)


def test_tpe_finds_the_category_and_the_integer() -> None:
    optimizer = make("tpe")
    points = []
    for _ in range(80):
        proposal = optimizer.ask()
        points.append(proposal.point)
        optimizer.tell(proposal.number, (score(proposal.point),))
    best = max(points, key=score)
    assert best.categories == (1,) and best.integers == (2,) and score(best) > -0.02


def test_tpe_learns_to_avoid_what_fails() -> None:
    """70% of the cube fails and the best scores lie against it. Told as FAIL, failures come to about 104 of 200."""
    failures = 0
    for seed in range(2):
        optimizer = make("tpe", Domain(reals=6), seed=seed)
        for _ in range(200):
            proposal = optimizer.ask()
            x = proposal.point.reals
            failed = x[0] > 0.5 or x[1] > 0.6
            failures += failed
            optimizer.tell(proposal.number, None if failed else (-sum((v - 0.55) ** 2 for v in x),))
    assert failures / 2 < 75


def test_early_failures_do_not_lead_tpe() -> None:
    """Everything fails before the first score; the failures must not become its model of good points."""
    optimizer = make("tpe", Domain(reals=2), startup=5)
    for _ in range(30):
        optimizer.tell(optimizer.ask().number, None)
    spread = [optimizer.ask().point.reals[0] for _ in range(40)]
    assert min(spread) < 0.15 and max(spread) > 0.85


def test_start_is_the_first_proposal_and_there_is_no_mean() -> None:
    start = Point(reals=(0.25, 0.75), integers=(3,), categories=(2,))
    for name in ("tpe", "nsga2", "random", "quasi_random"):
        optimizer = create(name, _DOMAIN, objectives=1, seed=0, start=start, options={})
        assert optimizer.ask().point == start and optimizer.ask().point != start
        assert optimizer.mean() is None


def test_nsga2_moves_its_population_toward_the_front() -> None:
    optimizer = make("nsga2", Domain(reals=6), objectives=2, popsize=16)
    sums: list[float] = []
    for _ in range(400):
        proposal = optimizer.ask()
        # Schaffer's problem in the first coordinate; the others should go to 0
        x, rest = proposal.point.reals[0], sum(v**2 for v in proposal.point.reals[1:])
        sums.append(rest)
        optimizer.tell(proposal.number, (-(x**2) - rest, -((x - 1) ** 2) - rest))
    assert sum(sums[-100:]) < 0.4 * sum(sums[:100])


_SCRIPT = """
from evomerge.records import Domain
from evomerge.optimizers import create
for name in ("tpe", "nsga2", "cma", "cmaes_lra"):
    domain = Domain(reals=4) if name.startswith("cma") else Domain(reals=2, integers=(4,), categories=(3,))
    objectives = 2 if name == "nsga2" else 1
    optimizer = create(name, domain, objectives=objectives, seed=5, start=None, options={})
    for k in range(70):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, None if k % 7 == 3 else (-sum(proposal.point.reals),) * objectives)
    print(name, proposal)
"""


def test_another_process_with_another_hash_seed_gives_the_same_points(capsys: pytest.CaptureFixture[str]) -> None:
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    other = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    exec(_SCRIPT, {})
    assert capsys.readouterr().out == other.stdout and other.stdout.count("Proposal") == 4
    assert other.stderr == "", "a library talks"


def test_it_leaves_optunas_verbosity_alone() -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        make("tpe")
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
