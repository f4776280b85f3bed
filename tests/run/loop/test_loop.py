"""The loop: budgets, subsets, duplicates, what the optimizer is told, several objectives."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import InvalidInput, NothingScored
from evomerge.evaluation.python_scorer import PythonScorer
from evomerge.run import (
    Progress,
    Run,
    SilentObserver,
    check_search,
    fitness,
    search,
    values_of,
)
from evomerge.run.loop import WHOLE_POOL, SearchLoop, Subsets
from tests.run.pico_search import SUBSET, differences, rows, search_data, task, write_search

TWO = [task(), task("otherness", weight=2)]


def searched(run: Run) -> list[Any]:
    return [each for each in run.candidates() if each.kind == "candidate"]


# -- budgets ----------------------------------------------------------------------------------------------------------


def test_the_budget_in_candidates_leaves_references_out(run_search) -> None:
    run = run_search(budget={"candidates": 7})
    assert len(searched(run)) == 7
    kinds = [each.kind for each in run.candidates()]
    assert kinds[:3] == ["parent"] * 3
    assert kinds.count("simple") >= 5 and set(kinds[3 : kinds.index("candidate")]) == {"simple"}


def test_the_budget_in_items(run_search) -> None:
    run = run_search(budget={"items": 1400})
    scored = sum(each.scores["search"]["nearness"].n for each in run.candidates() if "search" in each.scores)
    assert 1400 <= scored < 1400 + SUBSET
    references = sum(each.generation == -1 and each.kind != "mean" for each in run.candidates())
    assert len(searched(run)) == -(-(1400 - references * 100) // SUBSET)


def test_items_of_failed_attempts_count(run_search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to be scored, and lost, is what scorers were given; the budget knows both."""
    given: dict[str, int] = {}
    score = PythonScorer.score

    def counted(self: PythonScorer, task: Any, ids: Any, *arguments: Any, **options: Any) -> Any:
        given["all"] = given.get("all", 0) + len(ids)
        found = score(self, task, ids, *arguments, **options)
        given["scored"] = given.get("scored", 0) + len(ids)
        return found

    monkeypatch.setattr(PythonScorer, "score", counted)
    run = run_search(tasks=[task("moody")], budget={"items": 2000})
    phases = run.cost()["by_phase"]
    assert sum(phase["items"] for phase in phases.values()) == given["scored"]
    assert sum(phase["lost_items"] for phase in phases.values()) == given["all"] - given["scored"] > 0
    assert 2000 <= phases["search"]["items"] + phases["search"]["lost_items"] < 2000 + 2 * SUBSET


def test_the_first_budget_that_is_spent_ends_the_search(run_search) -> None:
    assert len(searched(run_search(budget={"candidates": 5, "items": 100_000, "hours": 10}))) == 5


def test_hours_include_the_proof(run_search, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only scoring moves: three minutes a candidate."""
    now = [0.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: now[0])
    monkeypatch.setitem(SearchLoop.__init__.__kwdefaults__, "clock", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setenv("PICO_SLEEP", "180")
    run = run_search(budget={"hours": 2}, proof={"finalists": 2})
    assert run.state == "done"
    assert len(searched(run)) >= 3
    # Without a reserve the search alone would take the two hours, and the proof another hour and a half.
    assert 1.5 * 3600 < run.summary().seconds < 2.5 * 3600


def test_hours_that_are_too_short_for_a_candidate_end_in_a_sentence(run_search, tmp_path: Path) -> None:
    with pytest.raises(NothingScored, match="no candidate could be scored"):
        run_search(budget={"hours": 1e-6})
    assert searched(Run(tmp_path / "run")) == []


def test_overrides_win_over_the_file(run_search) -> None:
    run = run_search(overrides={"candidates": 4, "seed": 11, "workers": 0}, workers={"count": 7})
    assert len(searched(run)) == 4
    assert run.fact("search")["seed"] == 11
    assert run.fact("search")["workers"] == {"count": 0}
    other = run_search(out="other", overrides={"candidates": 4, "seed": 12})
    assert [each.point for each in searched(run)] != [each.point for each in searched(other)]


@pytest.mark.parametrize("bad", [{"candidates": 0}, {"hours": -1.0}, {"workers": -1}, {"seed": -1}])
def test_overrides_are_checked_like_the_file(bad: dict[str, Any], run_search) -> None:
    with pytest.raises(InvalidInput, match="found"):
        run_search(overrides=bad)


# -- subsets ----------------------------------------------------------------------------------------------------------


def test_a_generation_shares_its_items_and_the_next_has_others(run_search) -> None:
    run = run_search(budget={"candidates": 30})
    items = run.items("search")
    by_generation: dict[int, set[tuple[int, ...]]] = {}
    for each in searched(run):
        assert each.subset == each.generation
        by_generation.setdefault(each.generation, set()).add(items[each.id]["nearness"].ids)
    assert len(by_generation) >= 3
    assert all(len(sets) == 1 for sets in by_generation.values())
    assert len({next(iter(sets)) for sets in by_generation.values()}) == len(by_generation)
    references = [each for each in run.candidates() if each.kind != "candidate" and each.generation == -1]
    whole = {items[each.id]["nearness"].ids for each in references if each.id in items}
    assert [len(ids) for ids in whole] == [100]
    assert all(ids <= set(next(iter(whole))) for sets in by_generation.values() for ids in map(set, sets))


def test_a_fixed_subset_stays(run_search) -> None:
    run = run_search(budget={"candidates": 12}, subset={"size": 20, "policy": "fixed"})
    items = run.items("search")
    assert len({items[each.id]["nearness"].ids for each in searched(run)}) == 1


def test_subsets_depend_on_seed_number_and_name_alone() -> None:
    pools: Any = {name: {"search": list(range(500, 600)), "select": [], "report": []} for name in ("a", "b")}
    one = Subsets(pools, 30, "rotate", seed=5)
    again = Subsets({"b": pools["b"]}, 30, "rotate", seed=5)
    assert one.items(3)["b"] == again.items(3)["b"], "another task does not change a task's subset"
    assert one.items(3) == Subsets(pools, 30, "rotate", seed=5).items(3)
    assert one.items(3)["a"] != one.items(3)["b"]
    assert one.items(3) != one.items(4)
    assert one.items(3) != Subsets(pools, 30, "rotate", seed=6).items(3)
    assert all(len(set(ids)) == 30 and set(ids) <= set(range(500, 600)) for ids in one.items(0).values())
    assert one.items(WHOLE_POOL)["a"] == tuple(range(500, 600))
    assert Subsets(pools, 1000, "rotate", seed=5).items(0)["a"] == tuple(range(500, 600))


def test_the_search_never_looks_at_the_other_pools(search_file: Path, tmp_path: Path) -> None:
    run = search(search_file, tmp_path / "run", candidates=12)
    pools = check_search(search_file).prepared.pools["nearness"]
    assert all(set(scores["nearness"].ids) <= set(pools["search"]) for scores in run.items("search").values())
    assert all(set(scores["nearness"].ids) <= set(pools["select"]) for scores in run.items("select").values())
    assert all(set(scores["nearness"].ids) == set(pools["report"]) for scores in run.items("report").values())
    assert not set(pools["search"]) & set(pools["select"]) | set(pools["search"]) & set(pools["report"])
    finalists = set(run.finalists)
    assert all(("select" in each.scores) == (each.id in finalists) for each in searched(run))


# -- duplicates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fixed", "rotate"])
def test_a_recipe_that_comes_again_takes_the_scores_it_had(
    policy: str, run_search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three layers from three models: 27 recipes, asked for 60 times."""
    log = tmp_path / "calls.log"
    monkeypatch.setenv("PICO_LOG", str(log))
    run = run_search(
        space={"method": "passthrough", "genes": {"source": {"per": "layer"}}},
        subset={"size": SUBSET, "policy": policy},
        optimizer={"name": "random", "generation_size": 30},
        budget={"candidates": 60},
        proof={"finalists": 4, "race": "off"},
    )
    assert run.state == "done"
    items = run.items("search")
    same = {row[0]: row[9] for row in rows(run.path, "candidate")["candidate"] if row[9] is not None}
    known = {each.id: each for each in run.candidates()}
    assert len(same) >= 20
    for copy, first in same.items():
        assert known[copy].recipe == known[first].recipe
        assert known[copy].subset == known[first].subset
        assert known[copy].worker == f"same as {first}"
        assert items[copy] == items[first] and known[copy].scores["search"] == known[first].scores["search"]
    originals = [each for each in searched(run) if each.id not in same]
    keys = [(str(each.recipe), each.subset) for each in originals]
    assert len(set(keys)) == len(keys), "a recipe was scored twice on the same items"
    pools = [row for row in rows(run.path, "score")["score"] if row[0] not in same or row[1] != "search"]
    assert len(log.read_text().splitlines()) == len(pools)
    told = [row[1:4] for row in rows(run.path, "step")["step"] if row[1] == "tell"]
    assert len(told) == 60


LAYERS = {"method": "passthrough", "genes": {"source": {"per": "layer"}}}
NONE_OR_ONE = {"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [0, 1]}}}


class Listening(SilentObserver):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def write_finite_search(folder: Path, pico: dict[str, Path], space: dict[str, Any]) -> Path:
    """Write a search through a space of eight recipes that may take an hour."""
    two = {"models": [str(pico["one"]), str(pico["two"])]}
    fixed = {"size": 20, "policy": "fixed"}
    return write_search(folder, pico, parents=two, space=space, budget={"hours": 1}, subset=fixed)


@pytest.mark.parametrize("space", [LAYERS, NONE_OR_ONE], ids=["scored", "with infeasible ones"])
@pytest.mark.parametrize("counted", [True, False])
def test_a_space_that_is_used_up_ends_the_search_and_the_proof_follows(
    counted: bool, space: dict[str, Any], pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight recipes: all are scored if the space can count them; else the search ends when only repeats come."""
    if not counted:
        monkeypatch.setattr("evomerge.space.stack.MAX_COUNT", 7)
        monkeypatch.setattr("evomerge.run.loop._state.MAX_CONSECUTIVE_REPEATS", 60)
        monkeypatch.setattr("evomerge.run.loop._state.REPEAT_GENERATIONS", 1)
    observer = Listening()
    run = search(write_finite_search(tmp_path, pico, space), tmp_path / "run", observer=observer)
    assert run.state == "done" and run.verdict is not None
    rows_of = rows(run.path, "candidate", "item")
    fresh = [row for row in rows_of["candidate"] if row[2] == "candidate" and row[9] is None]
    repeats = [row for row in rows_of["candidate"] if row[9] is not None]
    (said,) = (line for line in observer.said if line.startswith("the space is used up: "))
    if counted:
        assert "all its 8 recipes were scored or refused" in said
        assert len({row[8] for row in fresh}) == 8
    else:
        assert "the last 60 proposals repeat" in said
        assert len(repeats) >= 60 and {row[2] for row in rows_of["candidate"][-61:-1]} == {"candidate"}
    assert len(repeats) < 3000 and len(fresh) <= 8 + 2 * sum(row[10] == "failed" for row in fresh)
    with_items = {row[0] for row in rows_of["item"] if row[1] == "search"}
    assert not with_items & {row[0] for row in repeats}, "a repeat stores no items"
    infeasible = {row[0] for row in fresh if row[10] == "infeasible"}
    assert bool(infeasible) == (space is NONE_OR_ONE)
    known = {candidate.id: candidate for candidate in run.candidates()}
    for row in repeats:
        assert known[row[0]].state == known[row[9]].state and known[row[0]].failure == known[row[9]].failure
    assert (run.path / "ledger.sqlite").stat().st_size < 2_000_000


@pytest.mark.parametrize("counted", [True, False])
def test_a_used_up_space_is_known_after_a_resume(
    counted: bool, pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not counted:
        monkeypatch.setattr("evomerge.space.stack.MAX_COUNT", 7)
        monkeypatch.setattr("evomerge.run.loop._state.MAX_CONSECUTIVE_REPEATS", 40)
    file = write_finite_search(tmp_path, pico, LAYERS)

    class Stopper(SilentObserver):
        def say(self, line: str) -> None:
            assert "the space is used up" not in line

        def update(self, progress: Progress) -> None:
            if progress.phase == "searching" and progress.done >= 5:
                signal.raise_signal(signal.SIGTERM)

    assert search(file, tmp_path / "torn", observer=Stopper()).state == "searching"
    assert search(file, tmp_path / "torn").state == "done"
    search(file, tmp_path / "whole")
    assert differences(tmp_path / "whole", tmp_path / "torn") == []


# -- several objectives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["tpe", {"name": "nsga2", "popsize": 12}, "cma"])
def test_two_objectives_from_start_to_verdict(optimizer: Any, run_search) -> None:
    run = run_search(tasks=TWO, optimizer=optimizer, budget={"candidates": 36}, proof={"finalists": 3})
    assert run.state == "done"
    assert [each.name for each in run.objectives] == ["nearness", "otherness"]
    width = 1 if optimizer == "cma" else 2
    steps = rows(run.path, "step")["step"]
    assert {len(row[4].split(",")) for row in steps if row[1] == "tell"} == {width}
    assert {name for each in run.candidates() for name in each.scores.get("search", {})} == {"nearness", "otherness"}
    front = run.front
    values = {each.id: values_of(each.scores["select"]) for each in run.candidates() if "select" in each.scores}
    for each in front:
        rivals = [other for other in values.values() if other is not values[each.id]]
        assert not any(
            all(other[name] >= values[each.id][name] for name in other) and other != values[each.id] for other in rivals
        ), "a candidate of the front is dominated"
    mean = {each: fitness(run.objectives, values[each], {}) for each in values}
    assert mean[run.pick.id] == max(mean.values()), "references included"
    assert run.mean_score(run.pick, "select") == pytest.approx(
        (values[run.pick.id]["nearness"] + 2 * values[run.pick.id]["otherness"]) / 3
    )


def test_a_stack_of_layers_from_start_to_verdict(run_search, pico: dict[str, Path]) -> None:
    run = run_search(space="block_stack", tasks=[task("farness", direction="min")], budget={"candidates": 24})
    assert run.state == "done"
    assert run.fact("optimizer") == "catcma"
    depths = {sum(each.point.integers) for each in searched(run) if each.state == "scored"}
    assert len(depths) >= 3
    assert all(each.state in ("scored", "infeasible", "failed") for each in searched(run))
    assert any(each.point.integers == (1, 1, 1) for each in searched(run)), "the whole parent, around which it starts"


def test_a_direction_of_min_is_shown_as_it_is_and_searched_downwards(run_search) -> None:
    run = run_search(tasks=[task("farness", direction="min")], budget={"candidates": 40})
    (objective,) = run.objectives
    assert objective.direction == "min"
    parents = [each for each in run.candidates() if each.kind == "parent"]
    assert all(each.scores["search"]["farness"].value <= 0 for each in parents), "higher is better inside"
    pick = run.pick.scores["select"]["farness"].value
    assert pick > max(each.scores["select"]["farness"].value for each in parents)


# -- watching ---------------------------------------------------------------------------------------------------------


def test_the_observer_is_told_of_every_phase(pico: dict[str, Path], tmp_path: Path) -> None:
    seen: list[Progress] = []

    class Watching(SilentObserver):
        def update(self, progress: Progress) -> None:
            seen.append(progress)

    file = write_search(tmp_path, pico, budget={"candidates": 10})
    search(file, tmp_path / "run", observer=Watching())
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["preparing", "searching", "selecting", "reporting"]
    done = [progress.done for progress in seen if progress.phase == "searching"]
    assert done == sorted(done) and done[-1] == 10
    last = [progress for progress in seen if progress.phase == "searching"][-1]
    assert (last.planned, last.workers, last.running) == (10, 1, 0)
    assert last.best is not None and last.front >= 1


def test_a_mapping_is_a_search_too(pico: dict[str, Path], search_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = search(search_data(pico, budget={"candidates": 3}), "run")
    assert run.state == "done"
