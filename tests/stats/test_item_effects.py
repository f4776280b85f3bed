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


def night(
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
    table, truth = night(seed)
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


def test_it_solves_its_normal_equations() -> None:
    """At the optimum the weighted residuals of every effect equal its penalty: gradient 0, checked from outside."""
    table, _ = night(5, candidates=40, pool=30, subset=12, generations=5)
    model = item_effects(table)
    by_item: dict[int, float] = dict.fromkeys(model.eases, 0.0)
    intercept = np.mean(list(model.abilities.values()))
    for candidate, scores in table:
        p = [1 / (1 + math.exp(-(model.abilities[candidate] + model.eases[i]))) for i in scores.ids]
        residuals = np.subtract(scores.values, p)
        for item, residual in zip(scores.ids, residuals, strict=True):
            by_item[item] += residual
        # abilities have sd 1 around the intercept, whose own sd of 3 moves it a little off their mean
        assert residuals.sum() == pytest.approx(model.abilities[candidate] - intercept, abs=0.02)
    for item, total in by_item.items():
        assert total == pytest.approx(model.eases[item] / 9, abs=1e-6)


def test_more_items_than_candidates_and_fewer_give_the_same_model() -> None:
    """The Newton step eliminates the larger side; the transposed table must give the transposed fit."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(7, 11)) * 3
    tall = item_effects([(c, row(list(values[c]))) for c in range(7)])
    wide = item_effects([(i, row(list(values[:, i]))) for i in range(11)])
    fitted_tall = [[tall.abilities[c] + tall.eases[i] for i in range(11)] for c in range(7)]
    fitted_wide = [[wide.abilities[i] + wide.eases[c] for i in range(11)] for c in range(7)]
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
