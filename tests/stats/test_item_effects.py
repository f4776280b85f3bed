"""Item effects: known answers, extremes, and that adjusting beats not adjusting."""

import math
import time
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt
import pytest

from evomerge.records import ItemScores
from evomerge.stats import item_effects

Table = list[tuple[Hashable, ItemScores]]


def row(values: list[float], first: int = 0, weights: tuple[float, ...] | None = None) -> ItemScores:
    return ItemScores(ids=tuple(range(first, first + len(values))), values=tuple(values), weights=weights)


def ranks(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.argsort(np.argsort(values))


def search_run(
    seed: int, candidates: int = 500, pool: int = 256, subset: int = 64, generations: int = 25
) -> tuple[Table, list[float]]:
    """A search whose subsets differ in difficulty. Returns the table and every candidate's true mean on the pool."""
    generator = np.random.default_rng(seed)
    ability = np.linspace(-0.3, 0.5, candidates) + generator.normal(0, 0.4, candidates)
    ease = generator.normal(0, 1.5, pool)
    table: Table = []
    for generation in range(generations):
        tilt = np.exp(0.5 * generator.normal() * ease)
        ids = np.sort(generator.choice(pool, subset, replace=False, p=tilt / tilt.sum()))
        for c in range(generation * candidates // generations, (generation + 1) * candidates // generations):
            right = generator.random(subset) < 1 / (1 + np.exp(-(ability[c] + ease[ids])))
            table.append((c, ItemScores(ids=tuple(int(i) for i in ids), values=tuple(right.astype(float)))))
    return table, [float(np.mean(1 / (1 + np.exp(-(a + ease))))) for a in ability]


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_scores_are_closer_to_the_truth_than_raw_ones(seed: int) -> None:
    table, truth = search_run(seed)
    start = time.process_time()
    model = item_effects(table)
    seconds = time.process_time() - start
    adjusted = [model.adjusted(candidate) for candidate, _ in table]
    raw = [float(np.mean(scores.values)) for _, scores in table]
    correlation = {name: np.corrcoef(ranks(v), ranks(truth))[0, 1] for name, v in (("raw", raw), ("adj", adjusted))}
    assert correlation["adj"] > correlation["raw"] + 0.1 and correlation["adj"] > 0.7
    assert np.std(np.subtract(adjusted, truth)) < 0.6 * np.std(np.subtract(raw, truth))
    assert seconds < 1.0, "0.1 s on an idle core"


def test_an_easier_subset_gives_no_advantage() -> None:
    """Eight references link the subsets: right on 0.9 of the easy items, on 0.1 of the hard ones."""
    easy, hard = [1.0] * 18 + [0.0] * 2, [1.0] * 2 + [0.0] * 18
    table: Table = [(n, row(easy[n:] + easy[:n] + hard[n:] + hard[:n])) for n in range(8)]
    table += [("easy", row([1.0] * 15 + [0.0] * 5)), ("hard", row([1.0] * 5 + [0.0] * 15, first=20))]
    model = item_effects(table)
    assert model.adjusted("hard") > model.adjusted("easy"), (
        "0.25 of the hard items is better than 0.75 of the easy ones"
    )


@pytest.mark.parametrize(
    ("candidates", "pool", "subset", "generations"),
    [(40, 30, 12, 5), (1200, 1300, 24, 40), (1300, 1200, 24, 40)],
    ids=["solved densely", "by conjugate gradients", "by conjugate gradients, more candidates"],
)
def test_it_solves_its_normal_equations(candidates: int, pool: int, subset: int, generations: int) -> None:
    """At the optimum the weighted residuals of every effect equal its penalty: gradient 0, checked from outside."""
    table, _ = search_run(5, candidates, pool, subset, generations)
    model = item_effects(table)
    by_item: dict[int, float] = dict.fromkeys(model.easiness, 0.0)
    intercept = sum(model.abilities.values()) / (candidates + 1 / 9)  # where its own penalty, of sd 3, puts it
    for candidate, scores in table:
        p = [1 / (1 + math.exp(-(model.abilities[candidate] + model.easiness[i]))) for i in scores.ids]
        residuals = np.subtract(scores.values, p)
        for item, residual in zip(scores.ids, residuals, strict=True):
            by_item[item] += residual
        assert residuals.sum() == pytest.approx(model.abilities[candidate] - intercept, abs=1e-6)
    for item, total in by_item.items():
        assert total == pytest.approx(model.easiness[item] / 9, abs=1e-6)


def test_large_sparse_tables_take_seconds() -> None:
    """4,000 candidates x 6,000 items: a dense system of 4,001 rows in every step takes a minute."""
    table, truth = search_run(0, candidates=4000, pool=6000, subset=32, generations=200)
    start = time.process_time()
    model = item_effects(table)
    adjusted = [model.adjusted(candidate) for candidate, _ in table]
    assert time.process_time() - start < 8.0, "1.5 s on an idle core"
    raw = [float(np.mean(scores.values)) for _, scores in table]
    correlation = [np.corrcoef(ranks(values), ranks(truth))[0, 1] for values in (raw, adjusted)]
    assert correlation[1] > correlation[0] + 0.05


def test_more_items_than_candidates_and_fewer_give_the_same_model() -> None:
    """The Newton step eliminates the larger side; the transposed table must give the transposed fit."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(7, 11)) * 3
    tall = item_effects([(c, row(list(values[c]))) for c in range(7)])
    wide = item_effects([(i, row(list(values[:, i]))) for i in range(11)])
    fitted_tall = [[tall.abilities[c] + tall.easiness[i] for i in range(11)] for c in range(7)]
    fitted_wide = [[wide.abilities[i] + wide.easiness[c] for i in range(11)] for c in range(7)]
    assert np.allclose(fitted_tall, fitted_wide, atol=1e-9)


def test_all_right_and_all_wrong_stay_finite_and_ordered() -> None:
    model = item_effects([("right", row([1.0] * 20)), ("mixed", row([1.0, 0.0] * 10)), ("wrong", row([0.0] * 20))])
    right, mixed, wrong = (model.adjusted(name) for name in ("right", "mixed", "wrong"))
    assert 0 < wrong < 0.2 < 0.4 < mixed < 0.6 < 0.8 < right < 1
    assert 0.9 < item_effects([(0, row([1.0] * 50))]).adjusted(0) < 1
    assert 0 < item_effects([(0, row([0.0]))]).adjusted(0) < 0.5


def test_graded_values_enter_as_fractions() -> None:
    halves = item_effects([(0, row([0.5] * 40)), (1, row([0.8] * 40))])
    assert halves.logistic and halves.adjusted(0) == pytest.approx(0.5, abs=0.03)
    assert halves.adjusted(1) == pytest.approx(0.8, abs=0.05)


def test_unbounded_values_get_least_squares() -> None:
    generator = np.random.default_rng(0)
    ability, ease = generator.normal(0, 0.2, 60), generator.normal(-3, 2, 100)
    table: Table = []
    for c in range(60):
        ids = np.sort(np.argsort(ease + generator.normal(0, 2, 100) * (1 if c % 2 else -1))[c % 2 * 60 :][:40])
        values = ability[c] + ease[ids] + generator.normal(0, 0.3, 40)
        table.append((c, ItemScores(ids=tuple(int(i) for i in ids), values=tuple(values))))
    model = item_effects(table)
    assert not model.logistic
    adjusted = np.array([model.adjusted(c) for c in range(60)])
    raw = np.array([np.mean(scores.values) for _, scores in table])
    truth = ability + ease.mean()
    assert np.corrcoef(adjusted, truth)[0, 1] > 0.9 > np.corrcoef(raw, truth)[0, 1]


def test_weights_of_items_count_in_the_adjusted_mean() -> None:
    weights = (9.0,) * 10 + (1.0,) * 10
    table: Table = [(c, row([1.0] * 10 + [0.0] * 10, weights=weights)) for c in range(5)]
    assert item_effects(table).adjusted(0) > 0.8
    assert item_effects([(c, row([1.0] * 10 + [0.0] * 10)) for c in range(5)]).adjusted(0) == pytest.approx(
        0.5, abs=0.01
    )


def test_rows_of_one_candidate_are_joined() -> None:
    whole = item_effects([("a", row([1.0, 0.0, 1.0, 1.0])), ("b", row([0.0, 0.0, 1.0, 0.0]))])
    split = item_effects([("a", row([1.0, 0.0])), ("b", row([0.0, 0.0, 1.0, 0.0])), ("a", row([1.0, 1.0], first=2))])
    for name in ("a", "b"):
        assert split.adjusted(name) == pytest.approx(whole.adjusted(name), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "no item scores"),
        ([(0, row([]))], "no item scores"),
        ([(0, row([1.0, math.nan]))], "finite"),
        ([(0, row([1.0], weights=(0.0,)))], "positive"),
        ([(7, ItemScores(ids=(1, 2), values=(1.0,)))], "candidate 7 have lengths"),
    ],
)
def test_what_cannot_be_fitted_is_refused(table: Table, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        item_effects(table)


def test_an_unknown_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="candidate 3"):
        item_effects([(0, row([1.0]))]).adjusted(3)
