"""Measure ways to spend fewer items: races, gates, draws of items on which parents differ, estimates from few items.

    python scripts/bench_thrift.py                        # landscapes: minutes on one core
    python scripts/bench_thrift.py runs/quickstart        # finished runs too: whole races and gates, replayed

Draws: on landscapes (`evomerge.testing.landscapes`, rho 0.6), 12 candidates are ranked by 16 items, drawn uniformly or
with three quarters of them from those that not all references get equally right; the figure is the correlation with
the true accuracies. Estimates: two parents and three simple merges are scored on all of 500 items, candidates on a few.
Runs: a race is replayed on 40 orders of a run's select items (of a run without a race, or of those
that its race left whole), and a gate stops a candidate whose first 4 items a task score 10 points below every
reference.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evomerge.records import ItemScores
from evomerge.run import Run, fitness, parts_of, scores_of, survivors, values_of
from evomerge.stats import item_effects, item_response
from evomerge.testing.landscapes import Landscape

SEEDS, SUBSETS, CANDIDATES, ITEMS, GUARD_SHARE = 6, 60, 12, 16, 0.25
POOL = 1000
ORDERS, RACE_ERROR, GATE_ITEMS, GATE_POINTS = 40, 0.05, 4, 0.1

FloatArray = NDArray[np.float64]


def correlations(dimensions: int, seed: int, progress: float, *, soft: bool) -> tuple[float, float]:
    """Return how well 16 items rank candidates: uniform draws, and draws of items on which references differ.

    Args:
        dimensions: of the landscape.
        seed: of the landscape.
        progress: where the candidates are, from the middle of the cube (0) to the optimum (1).
        soft: rank by margins instead of right and wrong.
    """
    landscape, random = (
        Landscape(dimensions, seed=seed, search_items=POOL, held_out_items=1),
        np.random.default_rng(seed),
    )
    ids = np.arange(POOL)
    diagonal = [
        landscape.item_scores(np.full(dimensions, weight), ids.tolist()).values for weight in (0, 0.3, 0.5, 0.7, 1)
    ]
    differ = np.ptp(np.array(diagonal), axis=0) > 0
    middle = (1 - progress) * landscape.start + progress * landscape.optimum
    points = [np.clip(middle + random.normal(size=dimensions) * 0.12, 0, 1) for _ in range(CANDIDATES)]
    found = [landscape.item_scores(x, ids, soft=soft) for x in points]
    values = np.array([scores.soft if soft else scores.values for scores in found])
    truth = np.array([landscape.accuracy(x) for x in points])
    drawn = np.where(differ, (1 - GUARD_SHARE) / differ.sum(), GUARD_SHARE / (~differ).sum())
    uniform = np.full(POOL, 1 / POOL)
    return _correlation(values, truth, uniform, random), _correlation(values, truth, drawn, random)


def _correlation(values: FloatArray, truth: FloatArray, chances: FloatArray, random: np.random.Generator) -> float:
    found = []
    for _ in range(SUBSETS):
        means = values[:, random.choice(POOL, ITEMS, replace=False, p=chances)].mean(axis=1)
        found.append(float(np.corrcoef(means, truth)[0, 1]) if means.std() > 0 else 0.0)
    return float(np.mean(found))


def draw_rows() -> Iterator[str]:
    """Yield the table of draws."""
    yield "| genes | fitness | candidates | uniform | where references differ |"
    yield "|---|---|---|---|---|"
    for dimensions in (8, 24, 64):
        for soft in (False, True):
            for progress, where in ((0.0, "at the start"), (0.5, "halfway"), (0.9, "near the optimum")):
                rows = [correlations(dimensions, seed, progress, soft=soft) for seed in range(SEEDS)]
                uniform, differ = np.mean(rows, axis=0)
                kind = "soft" if soft else "0/1"
                yield f"| {dimensions} | {kind} | {where} | {uniform:.2f} | {differ:.2f} |"


def estimates(dimensions: int, seed: int, *, count: int, items: int) -> list[tuple[float, float]]:
    """Return (correlation with the score on all items, mean absolute error) of raw means, item effects and responses.

    Args:
        dimensions: of the landscape.
        seed: of the landscape.
        count: candidates, in generations of 10 on the same items, from the middle of the cube to the optimum.
        items: of each candidate.
    """
    size = POOL // 2
    landscape = Landscape(dimensions, seed=seed, search_items=size, held_out_items=1)
    random, ids = np.random.default_rng(seed), range(size)
    table = [(weight, landscape.item_scores(np.full(dimensions, weight), ids)) for weight in (0.0, 1.0, 0.3, 0.5, 0.7)]
    truth, raw = {}, {}
    for generation in range(count // 10):
        subset = np.sort(random.choice(size, items, replace=False)).tolist()
        progress = generation / (count // 10)
        middle = (1 - progress) * landscape.start + progress * landscape.optimum
        for k in range(10):
            x, number = np.clip(middle + random.normal(size=dimensions) * 0.15, 0, 1), 10.0 + 10 * generation + k
            scores = landscape.item_scores(x, subset)
            table.append((number, scores))
            truth[number] = float(np.mean(landscape.item_scores(x, ids).values))
            raw[number] = float(np.mean(scores.values))
    effects, responses = item_effects(table), item_response(table, [0.0, 1.0])
    found = []
    for estimate in (raw.__getitem__, effects.adjusted, responses.adjusted):
        values, true = np.array([estimate(number) for number in truth]), np.array(list(truth.values()))
        found.append((float(np.corrcoef(values, true)[0, 1]), float(np.abs(values - true).mean())))
    return found


def estimate_rows() -> Iterator[str]:
    """Yield the table of estimates."""
    yield "| genes | candidates | items each | raw mean: correlation, mean error | item effects | item-response model |"
    yield "|---|---|---|---|---|---|"
    for dimensions, count, items in ((8, 200, 16), (8, 200, 32), (8, 200, 64), (24, 400, 16)):
        rows = [estimates(dimensions, seed, count=count, items=items) for seed in range(SEEDS)]
        cells = [f"{correlation:.2f}, {error:.3f}" for correlation, error in np.mean(rows, axis=0)]
        yield f"| {dimensions} | {count} | {items} | " + " | ".join(cells) + " |"


def replayed_race(run: Run) -> tuple[float, float]:
    """Return the share of select items that a race spends, and how often its pick is that of no race."""
    items = run.items("select")
    whole = max(sum(len(scores.ids) for scores in found.values()) for found in items.values())
    items = {i: found for i, found in items.items() if sum(len(scores.ids) for scores in found.values()) == whole}
    objectives = run.objectives
    pool = {name: tuple(scores.ids) for name, scores in next(iter(items.values())).items()}

    def best(known: Mapping[int, Mapping[str, ItemScores]]) -> int:
        return max(known, key=lambda i: (fitness(objectives, values_of(scores_of(known[i])), {}), -i))

    shares, same = [], []
    for order in range(ORDERS):
        parts = parts_of(pool, order)
        error = RACE_ERROR / max(1, (len(parts) - 1) * (len(items) - 1))
        running, spent, before = dict(items), 0, 0
        for part in parts:
            size = sum(len(ids) for ids in part.values())
            spent, before = spent + len(running) * (size - before), size
            if part is not parts[-1]:
                kept = survivors(objectives, running, part, error=error, clusters={})
                running = {i: running[i] for i in kept}
        shares.append(spent / (len(items) * whole))
        same.append(best(running) == best(items))
    return float(np.mean(shares)), float(np.mean(same))


def gate_saving(run: Run) -> float:
    """Return the share of a search's items that a gate would have saved."""
    candidates = {candidate.id: candidate for candidate in run.candidates()}
    items = run.items("search")
    means = {i: float(np.mean([np.mean(scores.values) for scores in found.values()])) for i, found in items.items()}
    bar = min(means[i] for i in means if candidates[i].kind in ("parent", "simple")) - GATE_POINTS
    spent = saved = 0
    for identity, found in items.items():
        if candidates[identity].kind != "candidate":
            continue
        size = sum(len(scores.ids) for scores in found.values())
        first = float(np.mean([np.mean(scores.values[:GATE_ITEMS]) for scores in found.values()]))
        spent += size
        saved += size - GATE_ITEMS * len(found) if first <= bar else 0
    return saved / max(1, spent)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs; without any, draws on landscapes")
    given = parser.parse_args()
    if not given.runs:
        for row in (*draw_rows(), "", *estimate_rows()):
            print(row, flush=True)
        return
    print("| run | select items that a race spends | the same pick | search items that a gate saves |")
    print("|---|---|---|---|")
    for path in given.runs:
        run = Run(path)
        share, same = replayed_race(run)
        print(f"| {path.name} | {100 * share:.0f}% | {100 * same:.0f}% | {100 * gate_saving(run):.1f}% |")


if __name__ == "__main__":
    main()
