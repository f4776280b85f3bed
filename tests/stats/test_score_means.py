"""Means and standard errors against formulas written out by hand."""

import math

import numpy as np
import pytest

from evomerge.stats import mean_and_stderr


def test_binary_items_have_the_binomial_standard_error() -> None:
    score = mean_and_stderr([1, 0, 0, 1, 1, 1, 0, 1])
    assert (score.value, score.n) == (0.625, 8)
    assert score.stderr == pytest.approx(math.sqrt(0.625 * 0.375 / 7))


def test_weights_count_as_shares_and_their_scale_does_not() -> None:
    score = mean_and_stderr([1.0, 3.0, 2.0], [1, 1, 2])
    assert score.value == 2.0
    # ratio estimate: sqrt(n / (n - 1) * (1 * 1 + 1 * 1 + 4 * 0)) / 4
    assert score.stderr == pytest.approx(math.sqrt(1.5 * 2) / 4)
    scaled = mean_and_stderr([1.0, 3.0, 2.0], [10, 10, 20])
    assert (scaled.value, scaled.stderr) == pytest.approx((score.value, score.stderr))
    equal, plain = mean_and_stderr([1.0, 3.0, 2.5], [7, 7, 7]), mean_and_stderr([1.0, 3.0, 2.5])
    assert (equal.value, equal.stderr) == pytest.approx((plain.value, plain.stderr))


def test_the_standard_error_is_the_spread_of_repeated_means() -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(1, 20, 60).astype(float)
    means, errors = [], []
    for _ in range(2000):
        order = generator.permutation(60)  # weights belong to items, and both are drawn
        score = mean_and_stderr(generator.normal(size=60).tolist(), weights[order].tolist())
        means.append(score.value)
        errors.append(score.stderr)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.06)


def test_one_item_has_no_spread() -> None:
    score = mean_and_stderr([0.7])
    assert (score.value, score.stderr, score.n) == (0.7, 0.0, 1)


@pytest.mark.parametrize(
    ("values", "weights", "words"),
    [
        ([], None, "at least one"),
        ([0.0, math.nan], None, "value 1 is nan"),
        ([0.0, 1.0], [1.0, math.inf], "weight 1 is inf"),
        ([0.0, 1.0], [1.0], "1 weights for 2 values"),
        ([0.0, 1.0], [0.0, 0.0], "not all 0"),
        ([0.0, 1.0], [2.0, -1.0], "negative"),
    ],
)
def test_what_cannot_be_averaged_is_refused(values: list[float], weights: list[float] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mean_and_stderr(values, weights)
