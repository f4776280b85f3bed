"""Metrics of a whole set: their values, their errors, and what paired intervals through them promise."""

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores, SetParts
from evomerge.stats import interval_of, lower_end, paired_interval, score_of, set_sums

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "in", "mat", "house", "quickly", ",", ".", "!", "it's", "over"]


def scores(metric, rows, sign=1, first=0):
    rows = tuple(tuple(float(v) for v in row) for row in rows)
    ids = tuple(range(first, first + len(rows)))
    return ItemScores(ids=ids, values=(0.0,) * len(rows), parts=SetParts(metric=metric, sign=sign, rows=rows))


def texts(generator, count, low=0, high=12):
    return [" ".join(generator.choice(WORDS, generator.integers(low, high))) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "made", "sign"),
    [("bleu", BLEU(), 1), ("chrf", CHRF(), 1), ("chrf++", CHRF(word_order=2), 1), ("ter", TER(), -1)],
)
def test_text_metrics_are_sacrebleus_on_any_set(name, made, sign):
    generator = np.random.default_rng(3)
    answers, first, second = (texts(generator, 40) for _ in range(3))
    answers[:6] = first[:6]
    rows = made._extract_corpus_statistics(answers, [first, second])
    for few in (1, 2, 5, 40):
        found = score_of(scores(name, rows[:few], sign))
        expected = made.corpus_score(answers[:few], [first[:few], second[:few]]).score
        assert sign * found.value == pytest.approx(expected, abs=1e-9)
        assert found.n == few


def test_label_metrics_are_scikit_learns():
    from sklearn.metrics import f1_score, matthews_corrcoef  # heavy: the process that does not run this loads none

    generator = np.random.default_rng(5)
    for labels, few in [(2, 3), (2, 30), (3, 30), (7, 12)]:
        right, given = generator.integers(0, labels, (2, few))
        rows = list(zip(right, given, strict=True))
        for average in ("macro", "micro", "weighted"):
            expected = f1_score(right, given, average=average, zero_division=0)
            assert score_of(scores(f"{average}_f1", rows)).value == pytest.approx(expected)
        assert score_of(scores("matthews_corrcoef", rows)).value == pytest.approx(matthews_corrcoef(right, given))
        if labels == 2:
            assert score_of(scores("f1", rows)).value == pytest.approx(f1_score(right, given, zero_division=0))


def test_a_ratio_of_ones_has_the_intervals_of_a_mean():
    """The metric's own path, on the one metric for which the mean's path gives the answer."""
    generator = np.random.default_rng(1)
    a, b = (generator.normal(size=60) + shift for shift in (0.3, 0.0))
    of_sets = [{"x": scores("ratio", [(v, 1) for v in values])} for values in (a, b)]
    means = [{"x": ItemScores(ids=tuple(range(60)), values=tuple(values.tolist()))} for values in (a, b)]
    expected = paired_interval(*means, {"x": 1.0}, seed=0)
    found = paired_interval(*of_sets, {"x": 1.0}, seed=0)
    assert (found.gain, found.low, found.high) == pytest.approx((expected.gain, expected.low, expected.high), abs=1e-9)
    assert score_of(of_sets[0]["x"]).stderr == pytest.approx(score_of(means[0]["x"]).stderr)
    assert interval_of(of_sets[0]["x"]).low == pytest.approx(interval_of(means[0]["x"]).low)
    bounds = [lower_end(*pair, {"x": 1.0}, error=0.01) for pair in (of_sets, means)]
    assert bounds[0] == pytest.approx(bounds[1])
    clusters = {"x": {i: i // 5 for i in range(60)}}
    ends = [paired_interval(*pair, {"x": 1.0}, seed=0, clusters=clusters).low for pair in (of_sets, means)]
    assert ends[0] == pytest.approx(ends[1])


def test_items_of_one_cluster_are_resampled_together():
    generator = np.random.default_rng(2)
    strong = np.repeat(generator.integers(0, 2, 12), 10)
    rows = {name: [(1, int(v)) for v in values] for name, values in (("a", strong), ("b", 1 - strong))}
    a, b = ({"f": scores("f1", rows[name])} for name in "ab")
    clusters = {"f": {i: i // 10 for i in range(120)}}
    alone, together = (paired_interval(a, b, {"f": 1.0}, seed=0, clusters=c) for c in (None, clusters))
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.gain == alone.gain
    wide = interval_of(a["f"], cluster_of=clusters["f"])
    assert wide.high - wide.low > 1.5 * (interval_of(a["f"]).high - interval_of(a["f"]).low)


def test_a_single_win_is_no_proof():
    right = [(1, 1)] * 30 + [(0, 0)] * 29
    a, b = scores("f1", [*right, (1, 1)]), scores("f1", [*right, (1, 0)])
    interval = paired_interval({"f": a}, {"f": b}, {"f": 1.0}, seed=0)
    assert interval.low < 0 < interval.gain
    assert lower_end({"f": a}, {"f": b}, {"f": 1.0}, error=0.025) < 0
    equal = paired_interval({"f": b}, {"f": b}, {"f": 1.0}, seed=0)
    assert equal.gain == 0 and equal.low < 0 < equal.high


def test_intervals_cover_the_truth():
    """Of 150 draws, the 95% interval of a difference of two F1 misses the truth in no more than 6%."""
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(11)
    right = generator.integers(0, 2, 40_000)
    rates = {"a": 0.8, "b": 0.7}
    given = {k: np.where(generator.random(len(right)) < rate, right, 1 - right) for k, rate in rates.items()}
    truth = f1_score(right, given["a"]) - f1_score(right, given["b"])
    missed = 0
    for _ in range(150):
        picks = generator.integers(0, len(right), 100)
        a, b = ({"f": scores("f1", zip(right[picks], given[k][picks], strict=True))} for k in "ab")
        interval = paired_interval(a, b, {"f": 1.0}, seed=0, resamples=400)
        missed += not interval.low <= truth <= interval.high
    assert missed <= 9


def test_two_metrics_of_one_task_are_resampled_alike():
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, (3, 50))
    both = [
        {
            "acc": ItemScores(ids=tuple(range(50)), values=tuple((labels[0] == given).astype(float).tolist())),
            "micro": scores("micro_f1", zip(labels[0], given, strict=True)),
        }
        for given in labels[1:]
    ]
    apart = paired_interval(*both, {"acc": 1.0, "micro": 1.0}, seed=0)
    alike = paired_interval(*both, {"acc": 1.0, "micro": 1.0}, seed=0, same_items={"acc": "t", "micro": "t"})
    single = paired_interval(*both, {"acc": 1.0}, seed=0)
    assert alike.high - alike.low == pytest.approx(single.high - single.low, rel=0.05)
    assert apart.high - apart.low < 0.9 * (alike.high - alike.low)


def test_items_that_all_agree_leave_an_interval():
    right = ItemScores(ids=tuple(range(40)), values=(1.0,) * 40)
    expected = interval_of(right)
    found = interval_of(scores("micro_f1", [(1, 1)] * 40))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    wrong = interval_of(scores("f1", [(1, 0)] * 40))
    assert wrong.low == wrong.value == 0 < wrong.high < 0.1


def test_what_cannot_be_compared_is_refused():
    a = scores("bleu", [(1,) * 10] * 3)
    with pytest.raises(InvalidInput, match="different items, or by different metrics"):
        set_sums([a, scores("bleu", [(1,) * 10] * 3, first=1)])
    with pytest.raises(InvalidInput, match="different items, or by different metrics"):
        paired_interval({"x": a}, {"x": ItemScores(ids=(0, 1, 2), values=(1.0, 1.0, 1.0))}, {"x": 1.0}, seed=0)
    with pytest.raises(InvalidInput, match="there is no metric of a whole set"):
        score_of(scores("meteor", [(1.0,)]))
    with pytest.raises(InvalidInput, match="takes 10 numbers"):
        score_of(scores("bleu", [(1.0,)]))
    with pytest.raises(InvalidInput, match="finite"):
        score_of(scores("ter", [(float("nan"), 1.0)]))
