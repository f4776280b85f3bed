"""Evaluators by name, and entries that name one."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evomerge import evaluation, plugins
from evomerge.errors import EvomergeError, InvalidFile, InvalidInput
from evomerge.evaluation import Evaluator, PoolSizes, PrepareContext, PreparedTask, TaskRequest, prepare_items
from evomerge.records import ItemScores

SIZES = PoolSizes(search=2, select=2, report=2)


def ones(model: Any, tokenizer: Any, items: Sequence[Mapping[str, Any]]) -> list[float]:
    return [1.0 for _ in items]


class Counting(Evaluator):
    """Item numbers as values."""

    name = "counting"

    def __init__(self, start: int = 0):
        self.start = start

    def prepare(self, options: Mapping[str, Any], context: PrepareContext) -> PreparedTask:
        """Make as many items as wanted."""
        items = [f"item {i}" for i in range(int(options.get("count", 8)))]
        return prepare_items(items, context, objective=context.objective("counting", direction="min", metric="number"))

    def score(
        self, task: PreparedTask, ids: Sequence[int], model: Any, tokenizer: Any, *, batch_size: int
    ) -> ItemScores:
        """Return the numbers."""
        return ItemScores(ids=tuple(ids), values=tuple(float(self.start + i) for i in ids))


def prepared(*requests: TaskRequest) -> evaluation.Prepared:
    return evaluation.prepare_tasks(requests, pools=SIZES, seed=0)


def problem(request: TaskRequest) -> str:
    with pytest.raises(InvalidFile) as caught:
        prepared(request)
    return str(caught.value)


def test_registering_again_replaces_and_built_in_names_are_refused() -> None:
    assert evaluation.register(Counting).start == 0
    evaluation.register(Counting(5))
    assert evaluation.get("counting").start == 5  # type: ignore[attr-defined]
    assert evaluation.names()[:2] == ("lm_eval_task", "python_scorer") and "counting" in evaluation.names()
    taken = type("Taken", (Counting,), {"name": "lm_eval_task"})
    with pytest.raises(InvalidInput, match='the evaluator "lm_eval_task" comes with evomerge'):
        evaluation.register(taken)
    for wrong, text in [
        (5, "found 5, expected an object"),
        (type("Nameless", (Counting,), {"name": ""}), "has no name"),
    ]:
        with pytest.raises(InvalidInput, match=text):
            evaluation.register(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="without arguments"):
        evaluation.register(Evaluator)


def test_an_installed_package_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("counting", f"{__name__}:Counting", "evomerge.evaluators")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == point.group else [])
    for cached in (plugins._installed, plugins.load_plugin):
        cached.cache_clear()
    try:
        assert "counting" in evaluation.names()
        task = prepared(TaskRequest(evaluator="counting", options={"count": 9})).tasks["counting"]
        assert task.facts["documents"] == {"items": 9}
    finally:
        monkeypatch.undo()
        for cached in (plugins._installed, plugins.load_plugin):
            cached.cache_clear()


def test_the_identity_holds_evaluator_settings_and_options(model: Any, tokenizer: Any) -> None:
    facts = prepared(TaskRequest(evaluator=Counting(3), options={"count": 9})).facts["counting"]
    assert (facts["evaluator"], facts["settings"], facts["options"]) == ("counting", {"start": 3}, {"count": 9})
    assert facts != prepared(TaskRequest(evaluator=Counting(4), options={"count": 9})).facts["counting"]
    other = type("Counting", (Counting,), {"name": "counting"})

    def digest(evaluator: Evaluator) -> Any:
        return prepared(TaskRequest(evaluator=evaluator)).facts["counting"]["evaluator_digest"]

    assert facts["evaluator_digest"] == digest(Counting()) != digest(other())


def test_the_name_is_the_users_and_two_of_one_kind_stand_side_by_side(model: Any, tokenizer: Any) -> None:
    both = prepared(
        TaskRequest(evaluator=Counting(), name="low"), TaskRequest(evaluator=Counting(100), name="high", weight=2)
    )
    assert [(o.name, o.direction, o.weight) for o in both.objectives] == [("low", "min", 1), ("high", "min", 2)]
    items = {name: pools["search"] for name, pools in both.pools.items()}
    scores = both.scorer(model, tokenizer, batch_size=2).score(items)
    assert {name: min(found.values) >= 100 for name, found in scores.items()} == {"low": False, "high": True}
    assert "two objectives called" in problem_of_two()


def problem_of_two() -> str:
    with pytest.raises(InvalidFile) as caught:
        prepared(TaskRequest(evaluator=Counting()), TaskRequest(evaluator=Counting()))
    return str(caught.value)


def test_built_in_evaluators_can_be_named_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def one(model, tokenizer, items):\n    return [1.0 for _ in items]\n")
    (tmp_path / "items.jsonl").write_text("".join(f'{{"i": {i}}}\n' for i in range(8)))
    options = {"scorer": "own.py:one", "items": "items.jsonl"}
    named = prepared(TaskRequest(evaluator="python_scorer", options=options, folder=tmp_path))
    plain = prepared(TaskRequest(scorer=f"{tmp_path / 'own.py'}:one", items=tmp_path / "items.jsonl"))
    assert named.facts == plain.facts


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (TaskRequest(evaluator="python_scorr"), 'Did you mean "python_scorer"'),
        (TaskRequest(evaluator=Counting(), options={"count": 3}), "the pools need 6 items"),
        (TaskRequest(evaluator=Counting(), options={"count": "many"}), "the evaluator raised ValueError"),
        (TaskRequest(scorer=ones, items=[{"i": 1}], metric="acc"), "a scorer has neither"),
        (TaskRequest(task="arc_easy", direction="min"), "direction: are a scorer's"),
        (TaskRequest(scorer=ones, items=5), "items is 5, expected"),  # type: ignore[arg-type]
        (TaskRequest(scorer=ones, items=[{"i": object()}]), "its item 0 is no plain data"),
        (TaskRequest(scorer=ones, items=["a"]), "its item 0 is a str, expected a mapping"),  # type: ignore[list-item]
    ],
)
def test_refusals(request_: TaskRequest, text: str) -> None:
    assert text in problem(request_)


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (None, "did not return scores"),
        (ItemScores(ids=(0,), values=(1.0,)), "did not return scores of exactly the items given"),
        ("short", "returned 1 numbers for 2 items"),
        ("nan", "returned nan, not a finite number"),
        ("raise", "raised KeyError: 'answer'"),
    ],
)
def test_what_an_evaluator_does_wrong_names_it(returned: Any, text: str, model: Any, tokenizer: Any) -> None:
    class Wrong(Counting):
        """Returns what the test says."""

        name = "wrong"

        def score(self, task: PreparedTask, ids: Sequence[int], *_: Any, **__: Any) -> Any:
            """Misbehave."""
            if returned == "raise":
                raise KeyError("answer")
            if isinstance(returned, str):
                values = (1.0,) if returned == "short" else (float("nan"),) * len(ids)
                return ItemScores(ids=tuple(ids), values=values)
            return returned

    found = prepared(TaskRequest(evaluator=Wrong()))
    scorer = found.scorer(model, tokenizer, batch_size=2)
    with pytest.raises(EvomergeError, match=text) as caught:
        scorer.score({"counting": found.pools["counting"]["search"]})
    assert "wrong" in str(caught.value)


def test_a_functions_identity_is_its_source_and_what_the_source_hides() -> None:
    def made(number: float, default: float = 0.0) -> Any:
        def scorer(model: Any, tokenizer: Any, items: list[dict[str, Any]], offset: float = default) -> list[float]:
            return [number + offset for _ in items]

        return scorer

    items = [{"i": i} for i in range(6)]

    def digest(scorer: Any) -> str:
        (facts,) = prepared(TaskRequest(scorer=scorer, items=items)).facts.values()
        return str(facts["scorer_digest"])

    assert digest(made(1)) == digest(made(1))
    assert len({digest(made(1)), digest(made(2)), digest(made(1, 0.5)), digest(lambda *_: [1.0])}) == 4
    without_source = eval("lambda model, tokenizer, items: [1.0 for _ in items]")
    assert digest(without_source) == digest(without_source)
    assert len(prepared(TaskRequest(scorer=made(1), items=(dict(item) for item in items))).pools["scorer"]) == 3  # type: ignore[arg-type]
