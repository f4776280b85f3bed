"""Greedy soup: the algorithm on numbers, and its judgment on made-up items."""

from collections.abc import Mapping

import pytest

from evomerge.derived.soup import (
    check_models,
    greedy_soup,
    run_greedy_soup,
    soup_document,
)
from evomerge.errors import InvalidInput, NothingScored
from evomerge.recipe import ModelRef, parse_recipe
from evomerge.records import Failure, ItemScores, Objective
from evomerge.run import Job, Outcome

POOLS = {"task": {"search": (), "select": tuple(range(40)), "report": tuple(range(40, 240))}}
OBJECTIVES = (Objective(name="task", task="task", metric="acc"),)


def table(values: Mapping[tuple[int, ...], float | None], asked: list[tuple[int, ...]]):
    def score(members: tuple[int, ...]) -> float | None:
        asked.append(members)
        return values[members]

    return score


def test_the_algorithm_by_hand() -> None:
    """Sorted best first; kept if the score does not fall, equal scores included; each average is scored once."""
    values = {(0,): 0.5, (1,): 0.7, (2,): 0.6, (3,): 0.4, (1, 2): 0.65, (1, 0): 0.7, (1, 0, 3): 0.8}
    asked: list[tuple[int, ...]] = []
    made = greedy_soup(4, table(values, asked))
    assert made.members == (1, 0, 3)
    assert made.value == 0.8
    assert [(step.model, step.mixed, step.kept) for step in made.steps] == [
        (1, 0.7, True),
        (2, 0.65, False),
        (0, 0.7, True),
        (3, 0.8, True),
    ]
    assert sorted(asked) == sorted(values)


def test_what_cannot_be_scored_is_left_out() -> None:
    made = greedy_soup(3, table({(0,): None, (1,): 0.2, (2,): 0.3, (2, 1): None}, []))
    assert made.members == (2,)
    assert made.unscored == (0,)
    assert made.steps[1].mixed is None
    assert not made.steps[1].kept
    with pytest.raises(NothingScored):
        greedy_soup(2, lambda members: None)


def test_equal_checkpoints_stay_in_the_order_given() -> None:
    made = greedy_soup(3, lambda members: 0.5)
    assert made.members == (0, 1, 2)


class Fake:
    """Scores a recipe by its models' names: the sum of their skills right, out of 10 items in a row."""

    def __init__(self, skills: Mapping[str, int]):
        self.skills, self.pools = skills, []

    def score(self, job: Job) -> Outcome:
        names = [entry["model"] for entry in job.document["models"]]
        self.pools.append(job.pool)
        if "broken" in names:
            failure = Failure(kind="degenerate", reason="it is not finite")
            return Outcome(items=None, failure=failure, seconds=0, worker="fake")
        skill = sum(self.skills[name] for name in names) / len(names) + 2 * (len(names) > 1)
        ids = tuple(job.items["task"])
        values = tuple(float(i % 10 < skill) for i in ids)
        items = {"task": ItemScores(ids=ids, values=values)}
        return Outcome(items=items, failure=None, seconds=0, worker="fake")


def refs(*names: str) -> list[ModelRef]:
    return [ModelRef.parse(name) for name in names]


def test_the_winner_is_judged_on_items_that_chose_nothing() -> None:
    fake, lines = Fake({"good": 6, "bad": 1, "fair": 5}), []
    soup = run_greedy_soup(
        refs("bad", "good", "broken", "fair"), OBJECTIVES, POOLS, fake.score, seed=0, say=lines.append
    )
    assert soup.best == "good"
    assert [soup.models[each] for each in soup.greedy.members] == ["good", "fair"]
    assert fake.pools == ["select"] * 6 + ["report"] * 2
    assert soup.unscored == {"broken": "it is not finite"}
    assert soup.report["soup"]["task"].n == 200
    assert soup.interval is not None
    assert soup.interval.gain == pytest.approx(0.2)
    assert soup.text.startswith("Gain: +0.2000 (paired 95% interval +0.1")
    assert "over the best single checkpoint, good" in soup.text
    assert len(lines) == 6
    assert parse_recipe(soup.document).method == "linear"
    assert soup.plain()["members"] == ["good", "fair"]


def test_a_soup_of_one_claims_nothing() -> None:
    fake = Fake({"good": 9, "bad": 1})
    soup = run_greedy_soup(refs("good", "bad"), OBJECTIVES, POOLS, fake.score, seed=0)
    assert soup.interval is None
    assert "No average was better" in soup.text
    assert fake.pools.count("report") == 1
    assert soup.plain()["interval"] is None


def test_a_soup_needs_two_different_checkpoints() -> None:
    check_models(refs("a", "b"))
    for names in (["a"], [], ["a", "b", "a"]):
        with pytest.raises(InvalidInput, match="at least two different checkpoints"):
            check_models(refs(*names))
    document = soup_document(refs("a", "b"))
    assert [entry["parameters"] for entry in document["models"]] == [{"weight": 1.0}] * 2
