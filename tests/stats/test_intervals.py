"""Paired intervals: arithmetic, pairing, determinism, and coverage measured by simulation."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from evomerge.records import ItemScores
from evomerge.stats import paired_interval


def items(values: Sequence[float], weights: Sequence[float] | None = None) -> ItemScores:
    return ItemScores(
        ids=tuple(range(len(values))),
        values=tuple(float(v) for v in values),
        weights=None if weights is None else tuple(float(w) for w in weights),
    )


def sign_items(wins: int, losses: int, n: int) -> tuple[dict[str, ItemScores], dict[str, ItemScores]]:
    """0/1 scores of two candidates that differ on wins + losses of n items."""
    a = np.zeros(n)
    b = np.zeros(n)
    a[:wins] = 1
    b[wins : wins + losses] = 1
    a[n - n // 4 :] = b[n - n // 4 :] = 1  # ties are not all wrong
    return {"t": items(a)}, {"t": items(b)}


def test_gain_is_the_weighted_mean_of_scaled_differences() -> None:
    a = {"x": items([1, 1, 0, 1]), "y": items([5.0, 7.0], [1, 3]), "unused": items([0])}
    b = {"x": items([0, 1, 0, 0]), "y": items([4.0, 3.0], [1, 3])}
    interval = paired_interval(a, b, {"x": 1, "y": 3}, seed=0, scale={"y": 0.1}, resamples=200)
    assert interval.gain == pytest.approx(0.25 * 0.5 + 0.75 * 0.1 * (1 * 1 + 3 * 4) / 4)
    assert interval.low <= interval.gain <= interval.high and interval.level == 0.95


def test_swapping_the_candidates_turns_the_interval_around() -> None:
    a, b = sign_items(30, 10, 100)
    there, back = (paired_interval(x, y, {"t": 1}, seed=3) for x, y in ((a, b), (b, a)))
    assert back.gain == -there.gain
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.011)  # one item in 100


def test_it_depends_on_the_seed_and_on_nothing_else() -> None:
    generator = np.random.default_rng(0)
    a, b = ({name: items(generator.normal(size=40)) for name in ("x", "y")} for _ in range(2))
    weights = {"x": 1.0, "y": 2.0}
    first = paired_interval(a, b, weights, seed=1, resamples=500)
    np.random.seed(99)
    reordered = {name: weights[name] for name in ("y", "x")}
    assert paired_interval(dict(reversed(a.items())), b, reordered, seed=1, resamples=500) == first
    assert paired_interval(a, b, {"x": 10.0, "y": 20.0}, seed=1, resamples=500) == first
    assert paired_interval(a, b, weights, seed=2, resamples=500) != first


def test_items_are_paired_by_id() -> None:
    a, b = sign_items(20, 5, 60)
    order = np.random.default_rng(0).permutation(60)
    shuffled = ItemScores(ids=tuple(int(i) for i in order), values=tuple(a["t"].values[i] for i in order), weights=None)
    assert paired_interval({"t": shuffled}, b, {"t": 1}, seed=0) == paired_interval(a, b, {"t": 1}, seed=0)


def test_pairing_is_what_makes_it_narrow() -> None:
    """Items that both find hard, or both easy, say nothing about the difference."""
    generator = np.random.default_rng(0)
    hardness = generator.normal(0, 5, 200)
    a, b = ({"t": items(hardness + generator.normal(0, 0.1, 200))} for _ in range(2))
    interval = paired_interval(a, b, {"t": 1}, seed=0)
    assert interval.high - interval.low < 0.1


@pytest.mark.parametrize("n", [50, 200, 500])
def test_it_claims_where_the_exact_sign_test_does(n: int) -> None:
    """Two-sided p of 5 wins and no loss is 0.0625, of 6 it is 0.031; the plain percentile bootstrap claims at 4."""
    five, six = (paired_interval(*sign_items(wins, 0, n), {"t": 1}, seed=0).low for wins in (5, 6))
    assert five <= 0 < six


def test_ties_everywhere_are_no_proof_of_equality() -> None:
    interval = paired_interval(*sign_items(0, 0, 50), {"t": 1}, seed=0)
    assert interval.gain == 0 and interval.low < -0.02 and interval.high > 0.02


@pytest.mark.parametrize("values", [[0.25] * 50, [-3.0] * 50, [-1.0, -9.0] * 25])
def test_graded_scores_that_all_tie_do_not_give_a_width_of_zero(values: list[float]) -> None:
    same = {"t": items(values)}
    interval = paired_interval(same, same, {"t": 1}, seed=0)
    assert interval.gain == 0 and interval.low < 0 < interval.high
    joined = paired_interval(same, same, {"t": 1}, seed=0, clusters={"t": {item: item // 5 for item in range(50)}})
    assert joined.low < interval.low and joined.high > interval.high, "ten passages prove less than fifty questions"


def clustered(generator: np.random.Generator, groups: int, size: int) -> tuple[ItemScores, ItemScores]:
    """Return 0/1 scores of two models that are equally good; which of them knows a passage is its own."""
    favor = np.repeat(generator.normal(0, 2, groups), size)
    skill = 1 / (1 + np.exp(-(0.5 + np.stack([favor, -favor]))))
    first, second = (generator.random(groups * size) < skill).astype(float)
    return items(first.tolist()), items(second.tolist())


def test_clusters_of_items_are_resampled_together() -> None:
    """Groups of ten with a strong common effect: as if independent, the intervals miss four times too often."""
    generator = np.random.default_rng(3)
    cluster = {"t": {item: item // 10 for item in range(300)}}
    misses = {"items": 0, "clusters": 0}
    for seed in range(300):
        a, b = clustered(generator, 30, 10)
        for name, given in (("items", None), ("clusters", cluster)):
            interval = paired_interval({"t": a}, {"t": b}, {"t": 1}, seed=seed, clusters=given, resamples=400)
            misses[name] += not interval.low <= 0 <= interval.high
    assert misses["items"] > 45
    assert misses["clusters"] <= 300 * 0.05 + 2.5 * math.sqrt(300 * 0.05 * 0.95)


def test_clusters_of_one_item_change_nothing() -> None:
    a, b = sign_items(20, 5, 60)
    alone = {"t": {item: f"passage {item}" for item in range(0, 60, 2)}}  # the others have no cluster at all
    assert paired_interval(a, b, {"t": 1}, seed=0, clusters=alone) == paired_interval(a, b, {"t": 1}, seed=0)


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.1, 0.02), (0.2, 0.2), (0.02, 0.0)])
def test_coverage_of_binary_items(n: int, wins: float, losses: float) -> None:
    """A 95% interval, up to 2.5 standard errors of 400 simulations: the lower end lies above the truth in at most 2.5%.

    The upper end, on which no claim rests, may miss in 6.5% (one item in fifty won and none lost).
    """
    generator = np.random.default_rng(1)
    too_high = too_low = 0
    for seed in range(400):
        counts = generator.multinomial(n, [wins, losses, 1 - wins - losses])
        interval = paired_interval(*sign_items(int(counts[0]), int(counts[1]), n), {"t": 1}, seed=seed, resamples=500)
        too_high += interval.low > wins - losses + 1e-12
        too_low += interval.high < wins - losses - 1e-12
    for misses, rate in ((too_high, 0.025), (too_low, 0.065)):
        assert misses <= 400 * rate + 2.5 * math.sqrt(400 * rate * (1 - rate))


def test_coverage_of_graded_weighted_items_of_three_objectives() -> None:
    generator = np.random.default_rng(2)
    sizes = {"x": 60, "y": 100, "z": 200}
    misses, widths = 0, []
    for seed in range(300):
        a, b = {}, {}
        for name, n in sizes.items():
            weights = generator.integers(1, 10, n)
            difficulty = generator.normal(size=n)
            a[name] = items(difficulty + generator.exponential(1.0, n), weights)
            b[name] = items(difficulty + generator.exponential(0.7, n), weights)
        interval = paired_interval(a, b, {"x": 1, "y": 1, "z": 2}, seed=seed, resamples=500)
        misses += not interval.low <= 0.3 <= interval.high
        widths.append(interval.high - interval.low)
    assert misses <= 300 * 0.05 + 2.5 * math.sqrt(300 * 0.05 * 0.95)
    assert misses > 0 or np.mean(widths) < 0.5, "an interval that never misses is too wide to be of use"


_A, _B = sign_items(3, 2, 20)


@pytest.mark.parametrize(
    ("b", "arguments", "words"),
    [
        ({"t": replace(_B["t"], ids=tuple(range(1, 21)))}, {}, "different items"),
        ({"t": items([0] * 19)}, {}, "different items"),
        ({"t": replace(_B["t"], weights=(2.0,) * 20)}, {}, "weights differ"),
        ({"t": replace(_B["t"], values=(math.nan,) * 20)}, {}, "finite"),
        ({"t": replace(_B["t"], values=(0.0,) * 19)}, {}, "19 values"),
        ({}, {}, "no item scores for the second"),
        (_B, {"weights": {}}, "objective weights"),
        (_B, {"weights": {"t": -1.0}}, "objective weights"),
        (_B, {"weights": {"t": 0.0}}, "objective weights"),
        (_B, {"level": 1.0}, "level"),
        (_B, {"resamples": 0}, "resample"),
    ],
)
def test_what_cannot_be_compared_is_refused(b: dict[str, ItemScores], arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        paired_interval(_A, b, **{"weights": {"t": 1.0}, "seed": 0, **arguments})  # type: ignore[arg-type]


def test_two_metrics_of_one_task_are_no_twice_as_many_items() -> None:
    generator = np.random.Generator(np.random.PCG64(2))
    a, b = (ItemScores(ids=tuple(range(200)), values=tuple(generator.integers(0, 2, 200) * 1.0)) for _ in range(2))
    alone = paired_interval({"x": a}, {"x": b}, {"x": 1.0}, seed=3)
    both = {"x": 0.5, "y": 0.5}
    shared = paired_interval({"x": a, "y": a}, {"x": b, "y": b}, both, seed=3, same_items={"x": "task", "y": "task"})
    apart = paired_interval({"x": a, "y": a}, {"x": b, "y": b}, both, seed=3, same_items={"x": "task", "y": "other"})
    assert (shared.low, shared.high) == (alone.low, alone.high)
    assert apart.high - apart.low < 0.8 * (shared.high - shared.low)
