"""Intervals of single models, McNemar's test and Holm's correction against published and hand-computed numbers."""

import math

import numpy as np
import pytest

from evomerge.stats import holm, mcnemar, score_interval, wilson_interval

# -- Wilson -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_wilson_intervals(right: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I."""
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_covers_where_the_normal_interval_does_not() -> None:
    generator = np.random.default_rng(0)
    p, n, z = 0.97, 60, 1.959964
    wilson = normal = 0
    for right in generator.binomial(n, p, 2000):
        low, high = wilson_interval(int(right), n)
        wilson += low <= p <= high
        normal += abs(right / n - p) <= z * math.sqrt(right / n * (1 - right / n) / n)
    assert wilson / 2000 > 0.93 and normal / 2000 < 0.9


def test_all_right_has_a_width_and_its_ends_stay_inside() -> None:
    for right in (0, 8):
        low, high = wilson_interval(right, 8)
        assert 0 <= low <= right / 8 <= high <= 1 and high - low > 0.2


def test_a_score_gets_the_interval_that_its_items_allow() -> None:
    right = [1.0] * 15 + [0.0] * 5
    found = score_interval(right)
    assert found.name == "Wilson" and (found.low, found.high) == wilson_interval(15, 20) and found.value == 0.75
    assert score_interval(right, [2.0] * 20) == found
    graded = score_interval([0.25, 0.5, 0.75, 0.5])
    stderr = math.sqrt(2 * 0.25**2 / 12)
    assert graded.name == "normal" and graded.low == pytest.approx(0.5 - 1.959964 * stderr, abs=1e-6)
    assert score_interval(right, [1.0] * 10 + [2.0] * 10).name == "normal"


@pytest.mark.parametrize("value", [0.5, -3.0])
def test_graded_items_that_are_all_equal_leave_a_width(value: float) -> None:
    """32 equal items do not prove that the next one is the same; one item proves less."""
    widths = [found.high - found.low for found in (score_interval([value] * n) for n in (1, 32, 500))]
    assert widths[0] > widths[1] > widths[2] > 0
    together = score_interval([value] * 32, clusters=["one passage"] * 32)
    assert together.high - together.low == pytest.approx(widths[0])
    if value > 0:
        perfect = wilson_interval(32, 32)
        assert widths[1] == pytest.approx(2 * (perfect[1] - perfect[0]))
        assert 0 <= together.low <= value <= together.high <= 1


def test_graded_items_of_one_cluster_leave_a_width() -> None:
    found = score_interval([0.2, 0.4, 0.6], clusters=["a", "a", "a"])
    assert found.low == 0 and found.high == 1


@pytest.mark.parametrize(("right", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)])
def test_no_wilson_interval_of_nonsense(right: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(right, n, level)


@pytest.mark.parametrize("graded", [False, True])
def test_items_that_belong_together_widen_the_interval(graded: bool) -> None:
    """30 clusters of 10 items with a strong common effect; 400 draws."""
    generator = np.random.Generator(np.random.PCG64(5))
    clusters = [cluster for cluster in range(30) for _ in range(10)]
    covered = {"clustered": 0, "one by one": 0}
    for _ in range(400):
        chance = np.repeat(generator.beta(0.7 * 0.8, 0.3 * 0.8, size=30), 10)
        values = list(chance if graded else (generator.random(300) < chance).astype(float))
        for name, given in (("clustered", clusters), ("one by one", None)):
            found = score_interval(values, clusters=given)
            covered[name] += found.low <= 0.7 <= found.high
    assert covered["clustered"] >= 0.9 * 400
    assert covered["one by one"] < 0.75 * 400


def test_items_all_of_one_cluster_or_all_right() -> None:
    assert score_interval([1.0] * 40, clusters=[0] * 40).low == wilson_interval(1, 1)[0]
    right = score_interval([1.0] * 40, clusters=[i // 10 for i in range(40)])
    assert (right.low, right.high) == wilson_interval(4, 4)
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    assert score_interval(values, clusters=list("abcde")) == score_interval(values), "each item alone"
    with pytest.raises(ValueError, match="clusters"):
        score_interval(values, clusters=["a", "a"])


# -- McNemar ----------------------------------------------------------------------------------------------------------


def pair(wins: int, losses: int, ties: int) -> tuple[list[float], list[float]]:
    return [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(5, 0, 2 / 32), (6, 0, 2 / 64), (0, 6, 2 / 64), (8, 2, 2 * (1 + 10 + 45) / 1024), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_by_hand(wins: int, losses: int, p: float) -> None:
    found = mcnemar(*pair(wins, losses, 30))
    assert (found.wins, found.losses) == (wins, losses) and found.p_value == pytest.approx(p, rel=1e-12)


def test_mcnemar_is_the_binomial_test_also_for_many_items() -> None:
    stats = pytest.importorskip("scipy.stats")
    for wins, losses in ((120, 90), (900, 1100), (5000, 5100)):
        expected = stats.binomtest(min(wins, losses), wins + losses, 0.5).pvalue
        assert mcnemar(*pair(wins, losses, 5)).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 0.0]), ([0.5], [1.0]), ([float("nan")], [1.0])])
def test_what_mcnemar_cannot_test_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"items"):
        mcnemar(a, b)


# -- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}) and list(found) == ["a", "b", "c", "d"]
    assert holm({1: 0.7, 2: 0.9}) == {1: 1.0, 2: 1.0} and holm({}) == {} and holm({"a": 0.2}) == {"a": 0.2}


def test_holm_keeps_the_chance_of_any_false_claim() -> None:
    generator = np.random.default_rng(0)
    common = generator.normal(size=(4000, 1))
    p_values = np.array(
        [
            [math.erfc(abs(z) / math.sqrt(2)) for z in row]
            for row in (common + generator.normal(size=(4000, 6))) / 2**0.5
        ]
    )
    plain = (p_values.min(axis=1) < 0.05).mean()
    corrected = np.mean([min(holm(dict(enumerate(row))).values()) < 0.05 for row in p_values.tolist()])
    assert plain > 0.12 and corrected < 0.05


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_holm_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match="p value of x"):
        holm({"a": 0.1, "x": p})
