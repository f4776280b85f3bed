"""Pinned trajectories: linux-x86_64, numpy 2.4, scipy 1.17, cma 4.5, cmaes 0.13, optuna 5.0.

A change here changes the points of every run that is resumed: say so in the changelog. `python THIS_FILE` prints them.
"""

import pytest

from evomerge.optimizers import OPTIMIZERS, create
from evomerge.records import Domain, Point

_OPTIONS = {
    "cma": {"popsize": 4},
    "cmaes_lra": {"popsize": 4},
    "tpe": {"startup": 4},
    "nsga2": {"popsize": 4},
    "nsga3": {"popsize": 4},
    "gp": {"startup": 20},
    "catcma": {"popsize": 4},
    "m2n2": {"archive": 4},
}


def trajectory(name: str) -> list[tuple[float, ...]]:
    """Return the first three points, and one that depends on the answers to earlier ones, rounded to 1e-9."""
    options = _OPTIONS.get(name, {})
    domain = Domain(reals=OPTIMIZERS[name].max_dimensions or 3)
    optimizer = create(name, domain, objectives=1, seed=20, start=None, options=options)
    points: list[Point] = []
    pending = [optimizer.ask()]  # two workers
    for _ in range(9):
        pending.append(optimizer.ask())
        proposal = pending.pop(0)
        points.append(proposal.point)
        optimizer.tell(proposal.number, (-sum((x - 0.3) ** 2 for x in proposal.point.reals),))
    return [tuple(round(x, 9) for x in point.reals) for point in (*points[:3], points[8])]


GOLDEN: dict[str, list[tuple[float, ...]]] = {
    "guided": [
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
        (0.493423107, 0.460141499, 0.374484713),
        (0.497921004, 0.348831256, 0.640207234),
    ],
    "cma": [
        (0.489038511, 0.433569165, 0.290807855),
        (0.576291158, 0.415443236, 0.357105418),
        (0.607127594, 0.17019523, 0.249564217),
        (0.573028904, 0.691258815, 0.280238069),
    ],
    "cmaes_lra": [
        (0.406755227, 0.498117466, 0.610809675),
        (0.999084782, 0.352529458, 0.605139157),
        (0.107873471, 0.646939621, 0.818022018),
        (0.362493827, 0.397624867, 0.59691379),
    ],
    "catcma": [
        (0.406755227, 0.498117466, 0.610809675),
        (0.999084782, 0.352529458, 0.605139157),
        (0.700403137, 1.0, 0.959750351),
        (0.464689101, 0.603476721, 0.829340143),
    ],
    "tpe": [
        (0.076463713, 0.56401206, 0.818932002),
        (0.411118124, 0.980588358, 0.373412315),
        (0.038150568, 0.998172221, 0.737617732),
        (0.26897089, 0.155618867, 0.019169872),
    ],
    "nsga2": [
        (0.076463713, 0.56401206, 0.818932002),
        (0.411118124, 0.980588358, 0.373412315),
        (0.038150568, 0.998172221, 0.737617732),
        (0.038150568, 0.94649003, 0.387146455),
    ],
    "nsga3": [
        (0.076463713, 0.56401206, 0.818932002),
        (0.411118124, 0.980588358, 0.373412315),
        (0.038150568, 0.998172221, 0.737617732),
        (0.038150568, 0.94649003, 0.387146455),
    ],
    "gp": [
        (0.076463713, 0.56401206, 0.818932002),
        (0.411118124, 0.980588358, 0.373412315),
        (0.038150568, 0.998172221, 0.737617732),
        (0.013620806, 0.84764583, 0.122639684),
    ],
    "m2n2": [
        (0.280075963, 0.46114671, 0.121719693),
        (0.522608352, 0.409168409, 0.071639547),
        (0.098966676, 0.986288364, 0.694067882),
        (0.250675532, 0.307836377, 0.093509228),
    ],
    "grid": [(0.2, 0.1), (0.8, 1.0), (0.5, 0.6), (0.5, 0.5)],
    "random": [
        (0.280075963, 0.46114671, 0.121719693),
        (0.522608352, 0.409168409, 0.071639547),
        (0.098966676, 0.986288364, 0.694067882),
        (0.702442837, 0.612969406, 0.467425358),
    ],
    "quasi_random": [
        (0.914607857, 0.75903252, 0.215635899),
        (0.24441881, 0.39787792, 0.801156729),
        (0.356705556, 0.703819827, 0.418693793),
        (0.826305698, 0.665344738, 0.695489093),
    ],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_golden_trajectory(name: str) -> None:
    assert trajectory(name) == GOLDEN[name]


if __name__ == "__main__":
    for name in OPTIMIZERS:
        print(f'    "{name}": {trajectory(name)},')
