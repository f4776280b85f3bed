"""How near many workers come: the distance of the mean from the optimum of a quadratic after 2,500 evaluations.

    python scripts/bench_parallel.py                     # cma, 5 seeds: two minutes on one core
    python scripts/bench_parallel.py --optimizer guided

Workers are simulated: each always has a proposal, evaluations take times that differ by up to a half, and nobody waits.
The quadratics have 21 genes; the start is 1.25 away. `round` has the same curvature everywhere, `long` a hundred times
more along some directions than along others, which lie askew. Noise is that of an answer, where the start is worth -1.6
on the round one.
"""

import argparse
import heapq
import statistics
from collections.abc import Callable
from itertools import count

import numpy as np

from evomerge.optimizers import create
from evomerge.records import Domain, Point

SIZE, EVALUATIONS, DISTANCE = 21, 2500, 1.25
WORKERS = (1, 16, 64, 256)
CURVATURES = {"round": np.ones(SIZE), "long": 10 ** np.linspace(-1, 1, SIZE)}
MARGIN = 0.02  # of the optimum from the edge of the cube


def quadratic(kind: str, noise: float, seed: int) -> tuple[np.ndarray, Callable[[Point], float]]:
    """Return the optimum, and the value of a point; higher is better."""
    random = np.random.default_rng([seed, 1])
    direction = random.uniform(-1, 1, SIZE)
    optimum = np.clip(0.5 + DISTANCE * direction / np.linalg.norm(direction), MARGIN, 1 - MARGIN)
    axes, _ = np.linalg.qr(random.normal(size=(SIZE, SIZE)))
    form = (axes * CURVATURES[kind]) @ axes.T

    def value(point: Point) -> float:
        away = np.array(point.reals) - optimum
        return float(-away @ form @ away + noise * random.standard_normal())

    return optimum, value


def distance(name: str, workers: int, kind: str, noise: float, seed: int) -> float:
    """Return how far the mean is from the optimum in the end."""
    optimum, value = quadratic(kind, noise, seed)
    optimizer = create(name, Domain(reals=SIZE), objectives=1, seed=seed, start=Point(reals=(0.5,) * SIZE), options={})
    durations, numbers = np.random.default_rng([seed, 2]), count()
    now, asked = 0.0, 0
    running: list[tuple[float, int, int, Point]] = []  # when it ends, order, proposal, point
    while asked < EVALUATIONS or running:
        while len(running) < workers and asked < EVALUATIONS:
            proposal = optimizer.ask()
            asked += 1
            heapq.heappush(running, (now + durations.uniform(0.8, 1.2), next(numbers), proposal.number, proposal.point))
        now, _, number, point = heapq.heappop(running)
        optimizer.tell(number, (value(point),))
    mean = optimizer.mean()
    assert mean is not None
    return float(np.linalg.norm(np.array(mean.reals) - optimum))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", default="cma")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| quadratic | noise | " + " | ".join(f"{workers} workers" for workers in WORKERS) + " |")
    print("|" + "---|" * (2 + len(WORKERS)))
    for kind in CURVATURES:
        for noise in (0.0, 0.1):
            cells = [
                statistics.median(
                    distance(options.optimizer, workers, kind, noise, seed) for seed in range(options.seeds)
                )
                for workers in WORKERS
            ]
            print(f"| {kind} | {noise:g} | " + " | ".join(f"{cell:.2g}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
