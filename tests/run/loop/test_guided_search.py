"""The default search: it starts at the best reference, follows gene gradients, and resumes as if never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evomerge.engine import LiveModel, collected_gradients
from evomerge.records import ItemScores
from evomerge.run import Run, search
from evomerge.run.loop import REFERENCE_ITEMS, SearchLoop, Subsets, SubsetSizes, agreement_of, slopes_of, soft_value
from tests.run.pico_search import differences, rows, task, write_search

QUICKSTART = Path(__file__).resolve().parents[3] / "experiments" / "quickstart"


def quickstart(**changes: Any) -> dict[str, Any]:
    """Return a search over the quickstart's models that takes seconds."""
    models = QUICKSTART / "models"
    return {
        "parents": {"base": str(models / "base"), "models": [str(models / name) for name in ("add", "kanji")]},
        "space": "layerwise_task_arithmetic",
        "tasks": [{"task": "zoo_kanji", "metric": "acc"}, {"task": "zoo_add", "metric": "acc"}],
        "task_path": str(QUICKSTART / "tasks"),
        "pools": {"search": 64, "select": 32, "report": 8},
        "budget": {"candidates": 14},
        "optimizer": {"name": "guided", "steps": 8, "popsize": 4},
        "workers": {"count": 0},
        "proof": {"finalists": 2, "race": "off", "report": "chosen"},
        **changes,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return search(quickstart(), tmp_path_factory.mktemp("guided") / "run").path


def test_it_starts_at_the_best_reference_and_follows_gradients(finished: Path) -> None:
    run = Run(finished)
    references = [c for c in run.candidates() if c.kind in ("parent", "simple")]
    assert all(score.n == REFERENCE_ITEMS for c in references for score in c.scores["search"].values())
    best = max(references, key=lambda c: sum(score.value for score in c.scores["search"].values()))
    assert run.fact("start")["name"] == best.name
    first = next(c for c in run.candidates() if c.kind == "candidate")
    assert first.point is not None and list(first.point.reals) == run.fact("start")["point"]["reals"]
    kinds = [step[1] for step in rows(finished, "step")["step"]]
    assert kinds.count("gradient") == 8 and kinds.count("ask") == kinds.count("tell") == 14


def test_it_starts_where_floors_are_met(run_search: Callable[..., Run]) -> None:
    """The best mean of all misses the floor that the user drew; the search begins at the best that meets it."""
    tasks = [task(weight=3), task("otherness")]
    free = run_search("free", tasks=tasks, optimizer="guided", budget={"candidates": 1})
    scores = {c.name: c.scores["search"] for c in free.candidates() if c.kind in ("parent", "simple")}
    best = scores[free.fact("start")["name"]]
    floor = max(found["otherness"].value for found in scores.values())
    assert floor > best["otherness"].value
    bound = run_search(
        "bound", tasks=[tasks[0], task("otherness", floor=floor)], optimizer="guided", budget={"candidates": 1}
    )
    assert scores[bound.fact("start")["name"]]["otherness"].value == floor


def test_subsets_are_small_in_the_ascent_and_grow_after_it(finished: Path) -> None:
    scored = [c for c in Run(finished).candidates() if c.kind == "candidate"]
    sizes = {c.generation: next(iter(c.scores["search"].values())).n for c in scored}
    assert sizes[0] == 8 and sizes[8] == 16


def test_the_ascent_improves_on_its_start(finished: Path) -> None:
    """On the items of the select pool, which it did not see."""
    run = Run(finished)
    scored = {c.id: c for c in run.candidates() if "select" in c.scores}
    start = next(c for c in scored.values() if c.name == run.fact("start")["name"])
    means = {i: sum(s.value for s in c.scores["select"].values()) / 2 for i, c in scored.items()}
    assert max(means.values()) > means[start.id]


class Killed(Exception):
    """The end of a driver in the middle of a search."""


def die_after(monkeypatch: pytest.MonkeyPatch, *counts: int) -> None:
    """Let a driver die when it has recorded so many results, counted over all drivers."""
    original, counted = SearchLoop._record, [0]

    def record(self: SearchLoop, results: Any) -> None:
        original(self, results)
        counted[0] += len(results)
        if results and counted[0] in counts:
            raise Killed

    monkeypatch.setattr(SearchLoop, "_record", record)


def test_a_run_that_died_goes_on_as_if_it_had_not(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_after(monkeypatch, 4, 11, 17)  # among the references, in the ascent, in the evolution
    for _ in range(3):
        with pytest.raises(Killed):
            search(quickstart(), tmp_path / "run")
    search(quickstart(), tmp_path / "run")
    assert not differences(finished, tmp_path / "run")


def test_tasks_without_right_answers_are_searched_without_gradients(run_search: Callable[..., Run]) -> None:
    run = run_search(optimizer="guided", subset={"size": "auto"}, budget={"candidates": 30})
    kinds = {step[1] for step in rows(run.path, "step")["step"]}
    assert run.state == "done" and kinds == {"ask", "tell"}
    assert "without gene gradients: nearness has no right answers" in (run.path / "logs" / "run.log").read_text()


def test_what_weighs_nothing_needs_no_right_answers(tmp_path: Path) -> None:
    tasks = [{"task": "zoo_add", "metric": "acc"}, {"evaluator": "layers"}]
    run = search(quickstart(tasks=tasks, budget={"candidates": 2}), tmp_path / "run")
    kinds = [step[1] for step in rows(run.path, "step")["step"]]
    assert run.state == "done" and kinds.count("gradient") == 2


def test_where_activations_are_too_many_blocks_run_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients go on, with the same numbers."""
    used: list[bool] = []

    def passed(*arguments: Any, checkpoints: bool) -> Any:
        used.append(checkpoints)
        if not checkpoints:
            raise MemoryError
        return collected_gradients(*arguments, checkpoints=True)

    monkeypatch.setattr("evomerge.run.workers._candidate_scorer.collected_gradients", passed)
    search(quickstart(), tmp_path / "run")
    assert used == [False] + [True] * 8  # what did not fit once is not tried again
    assert not differences(finished, tmp_path / "run")


def test_a_backward_pass_that_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveModel, "activation_limit_bytes", 16)
    run = search(quickstart(budget={"candidates": 2}), tmp_path / "run")
    kinds = {step[1] for step in rows(run.path, "step")["step"]}
    assert run.state == "done" and kinds == {"ask", "tell"}
    log = (run.path / "logs" / "run.log").read_text()
    assert "without gene gradients: the backward pass takes more memory than there is" in log


def test_what_auto_meant_when_a_run_began_is_kept(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of an evomerge whose `auto` was another optimizer goes on with that."""
    file = write_search(tmp_path, pico, optimizer="auto", budget={"candidates": 5})
    monkeypatch.setattr("evomerge.run.config._validate.resolve_auto", lambda domain, objectives: "cma")
    die_after(monkeypatch, 9)
    with pytest.raises(Killed):
        search(file, tmp_path / "run")
    monkeypatch.undo()
    run = search(file, tmp_path / "run")
    assert run.state == "done" and run.fact("optimizer") == "cma"


def test_slopes_say_what_soft_scores_predict() -> None:
    soft = tuple(x / 10 - 3 for x in range(60))
    right = ItemScores(ids=tuple(range(60)), values=tuple(float(x > 0) for x in soft), soft=soft)
    flat = ItemScores(ids=tuple(range(60)), values=(1.0,) * 60, soft=soft)
    slopes = slopes_of([{"a": right, "b": flat}])
    assert set(slopes) == {"a"} and 0.1 < slopes["a"] < 0.5
    assert soft_value(right, None) == pytest.approx(sum(right.values) / 60)
    assert soft_value(right, slopes["a"]) == pytest.approx(slopes["a"] * sum(soft) / 60)
    backward = ItemScores(ids=right.ids, values=tuple(1 - value for value in right.values), soft=soft)
    assert slopes_of([{"a": backward}]) == {}


def test_subsets_grow_where_halves_disagree() -> None:
    pools: Any = {"task": {"search": range(500), "select": (), "report": ()}}
    for agreeing in (True, False):
        subsets = Subsets(pools, 16, "rotate", 0)
        sizes = SubsetSizes(subsets, {})
        for generation in range(40):
            for k in range(8):
                sizes.ask(generation, gradient=False)
                sizes.finish(generation, (float(k), float(k) if agreeing else -float(k)))
            sizes = SubsetSizes(subsets, sizes.plain())  # as after a resume
        size = subsets.size(39)
        assert size == 8 if agreeing else size > 24
        assert len(subsets.items(39)["task"]) == size


def test_agreement_needs_candidates_that_differ() -> None:
    assert agreement_of([(1.0, 1.0)] * 3) is None
    assert agreement_of([(1.0, 2.0)] * 5) == 0.0
    assert agreement_of([(float(k), 2.0 * k) for k in range(5)]) == pytest.approx(1.0)
