"""The item-response model: planted mixtures of parents are found, and scores of few items estimated."""

import numpy as np
import pytest

from evomerge.errors import InvalidInput
from evomerge.records import ItemScores
from evomerge.stats import item_response

ITEMS = 120
SHARES = {"half": (0.5, 0.5), "first": (0.9, 0.2), "both": (0.9, 0.9), "none": (0.1, 0.1)}


def planted(seed: int) -> dict[str, np.ndarray]:
    """Answers of two parents and of mixtures of them."""
    random = np.random.default_rng(seed)
    easiness = random.normal(-1.0, 1.0, ITEMS)
    skills = random.normal(1.0, 1.5, (2, ITEMS))
    shares = {"one": (1.0, 0.0), "two": (0.0, 1.0), **SHARES}
    probability = {name: 1 / (1 + np.exp(-easiness - np.array(share) @ skills)) for name, share in shares.items()}
    return {name: (random.random(ITEMS) < p).astype(float) for name, p in probability.items()}


def scores(answers: np.ndarray, ids: np.ndarray) -> ItemScores:
    return ItemScores(ids=tuple(int(i) for i in ids), values=tuple(float(v) for v in answers[ids]))


def test_mixtures_of_few_items_are_estimated_better_than_by_their_mean() -> None:
    errors, plain = [], []
    for seed in range(6):
        answers = planted(seed)
        random = np.random.default_rng([seed, 1])
        table = [(name, scores(answers[name], np.arange(ITEMS))) for name in ("one", "two")]
        for name in SHARES:
            for k in range(20):
                ids = random.choice(ITEMS, 24, replace=False)
                table.append((f"{name} {k}", scores(answers[name], ids)))
        model = item_response(table, ["one", "two"])
        for name, found in table[2:]:
            truth = answers[str(name).split()[0]].mean()
            errors.append(abs(model.adjusted(name) - truth))
            plain.append(abs(np.mean(found.values) - truth))
    assert np.mean(errors) < 0.75 * np.mean(plain)


def test_parents_keep_their_own_scores_and_are_their_own_mixture() -> None:
    answers = planted(0)
    table = [(name, scores(answers[name], np.arange(ITEMS))) for name in ("one", "two", "half")]
    model = item_response(table, ["one", "two"])
    assert model.mixtures["one"] == (1.0, 0.0)
    for name in ("one", "two", "half"):
        assert model.adjusted(name) == pytest.approx(answers[name].mean()), "all items were seen"


def test_what_is_no_probability_has_no_such_model() -> None:
    table = [("one", ItemScores(ids=(0, 1), values=(0.2, -3.0)))]
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        item_response(table, ["one"])
    with pytest.raises(InvalidInput, match="at least one parent"):
        item_response([("x", ItemScores(ids=(0,), values=(1.0,)))], ["one"])
    model = item_response([("one", ItemScores(ids=(0,), values=(1.0,)))], ["one"])
    with pytest.raises(InvalidInput, match="has no item scores"):
        model.adjusted("two")
