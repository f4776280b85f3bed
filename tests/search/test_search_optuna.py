"""What Optuna is told: failures, kinds of coordinates, silence, and sameness across processes."""

import os
import subprocess
import sys
from typing import Any

import pytest

from evomerge.records import Domain, Point
from evomerge.search import Optimizer, create

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


@pytest.mark.parametrize("objectives", [1, 2])
def test_tpe_learns_to_avoid_what_fails(objectives: int) -> None:
    """A quarter of the cube fails and the best scores lie against it; fewer failures than by chance."""
    failed = []
    for seed in range(3):
        optimizer = make("tpe", Domain(reals=4), objectives=objectives, seed=seed)
        failures = 0
        for count in range(120):
            proposal = optimizer.ask()
            x = proposal.point.reals
            if x[0] > 0.5 and x[1] > 0.5:
                failures += count >= 20
                optimizer.tell(proposal.number, None)
            else:
                optimizer.tell(proposal.number, (-sum((v - 0.45) ** 2 for v in x), -sum(v**2 for v in x))[:objectives])
        failed.append(failures)
    assert sum(failed) / 3 < 0.15 * 100, f"by chance 25 of 100, got {failed}"


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


def test_nsga2_moves_its_population_towards_the_front() -> None:
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
from evomerge.search import create
for name in ("tpe", "nsga2", "cma", "cmaes_lra"):
    domain = Domain(reals=4) if name.startswith("cma") else Domain(reals=2, integers=(4,), categories=(3,))
    objectives = 2 if name == "nsga2" else 1
    optimizer = create(name, domain, objectives=objectives, seed=5, start=None, options={})
    for k in range(70):
        proposal = optimizer.ask()
        optimizer.tell(proposal.number, None if k % 7 == 3 else (-sum(proposal.point.reals),) * objectives)
    print(name, proposal)
"""


def test_another_process_with_another_hash_seed_gives_the_same_points() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1 and outputs.pop().count("Proposal") == 4


def test_it_is_quiet_and_leaves_optunas_verbosity_alone(capfd: pytest.CaptureFixture[str]) -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    for name in ("tpe", "nsga2"):
        optimizer = make(name)
        for _ in range(40):
            proposal = optimizer.ask()
            optimizer.tell(proposal.number, (score(proposal.point),) if proposal.number % 3 else None)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
