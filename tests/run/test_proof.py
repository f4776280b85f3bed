"""The proof: who is re-scored, who is picked, what floors do, and the verdict; and the arithmetic beneath."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import EvomergeError, InvalidFile, InvalidInput
from evomerge.recipe import load_recipe
from evomerge.records import Failure, ItemScores, Objective
from evomerge.results import export
from evomerge.run import (
    Job,
    Ranking,
    Run,
    Setup,
    create_executor,
    difficulty_offset,
    displayed_value,
    effects_of,
    fitness,
    floors_of,
    internal_value,
    scale_factor,
    scaled_value,
    search,
    shortfall,
    values_of,
    vector,
)
from tests.run.pico_search import WHOLE_PROOF, rows, task, write_search

TWO = [task(), task("otherness")]


def objective(name: str = "a", **more: Any) -> Objective:
    return Objective(name=name, task=name, metric="acc", **more)


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["identity", "exp"])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_internal_values_are_higher_is_better_and_displayed_in_the_metrics_own_way(direction: Any, link: Any) -> None:
    if (direction, link) == ("max", "exp"):
        return
    each = objective(direction=direction, link=link)
    better, worse = (3.5, 7.25) if direction == "min" else (7.25, 3.5)
    assert internal_value(each, better) > internal_value(each, worse)
    assert displayed_value(each, internal_value(each, 3.5)) == pytest.approx(3.5)


def test_a_scale_maps_to_0_and_1_whatever_the_direction() -> None:
    for each in (
        objective(scale=(10.0, 30.0)),
        objective(scale=(10.0, 30.0), direction="min"),
        objective(scale=(10.0, 30.0), direction="min", link="exp"),
    ):
        worst, best = (10.0, 30.0) if each.direction == "max" else (30.0, 10.0)
        assert scaled_value(each, internal_value(each, worst)) == pytest.approx(0.0)
        assert scaled_value(each, internal_value(each, best)) == pytest.approx(1.0)
        assert scale_factor(each) > 0


def test_fitness_is_the_weighted_mean_of_the_scaled_values() -> None:
    both = [objective("a", weight=3), objective("b", direction="min", scale=(0.0, 4.0))]
    assert fitness(both, {"a": 0.5, "b": -1.0}, {}) == pytest.approx((3 * 0.5 + 0.75) / 4)
    assert vector(both, {"a": 0.5, "b": -1.0}, {}) == pytest.approx((0.5, 0.75))


def test_a_missed_floor_costs_more_than_the_rest_can_earn() -> None:
    both = [objective("a"), objective("b")]
    floors = {"a": 0.6}
    low, high = {"a": 0.5, "b": 1.0}, {"a": 0.6, "b": 0.75}
    assert shortfall(both, low, floors) == pytest.approx(0.1)
    assert fitness(both, low, {}) > fitness(both, high, {})
    assert fitness(both, low, floors) < fitness(both, high, floors)
    assert fitness(both, high, floors) == fitness(both, high, {})
    assert vector(both, low, floors) == pytest.approx((0.3, 0.8))


def test_floors_are_in_the_metrics_own_units() -> None:
    objectives = [
        objective("acc", floor=0.4),
        objective("err", direction="min", floor=0.3),
        objective("near"),
        objective("far", direction="min"),
        objective("ppl", direction="min", link="exp"),
    ]
    parents = {"p": {"acc": 0.9, "err": -0.1, "near": 0.8, "far": -0.2, "ppl": -math.log(10)}}
    relative = {name: ("p", minus) for name, minus in (("near", 0.05), ("far", 0.05), ("ppl", 1.0))}
    floors = floors_of(objectives, relative, parents)
    displayed = {each.name: displayed_value(each, floors[each.name]) for each in objectives}
    assert displayed == pytest.approx({"acc": 0.4, "err": 0.3, "near": 0.75, "far": 0.25, "ppl": 11.0})
    assert set(floors_of(objectives, relative, {})) == {"acc", "err"}


def items(ids: range, right: set[int]) -> dict[str, ItemScores]:
    return {"a": ItemScores(ids=tuple(ids), values=tuple(float(i in right) for i in ids))}


def test_a_ranking_compares_candidates_of_hard_and_easy_subsets() -> None:
    """Items 0-49 are easy, 50-99 hard; two known models were scored on all of them."""
    easy, hard = set(range(45)), set(range(50, 65))
    table = {
        0: items(range(100), easy | hard),
        1: items(range(100), set(range(40)) | set(range(50, 58))),
        2: items(range(50), set(range(38))),  # well below number 0 on the easy half
        3: items(range(50, 100), set(range(50, 75))),  # well above number 0 on the hard half
    }
    ranking = Ranking([objective()], table, {})
    raw = {each: sum(scores["a"].values) / len(scores["a"].values) for each, scores in table.items()}
    assert raw[2] > raw[3]
    assert ranking.ranked([0, 2, 3]) == [3, 0, 2]
    assert ranking.ranked([1, 99]) == [1], "unknown candidates have no rank"
    effects = effects_of([objective()], table)
    harder, easier = (difficulty_offset(effects, {"a": half})["a"] for half in (range(50, 100), range(50)))
    assert easier < 0 < harder


def test_the_front_of_given_values() -> None:
    both = [objective("a"), objective("b")]
    values = {1: {"a": 0.9, "b": 0.1}, 2: {"a": 0.5, "b": 0.5}, 3: {"a": 0.4, "b": 0.5}, 4: {"a": 0.1, "b": 0.9}}
    assert sorted(Ranking.of_values(both, values, {}).front([1, 2, 3, 4])) == [1, 2, 4]
    assert Ranking.of_values(both, values, {"b": 0.45}).front([1, 2, 3]) == [2]


# -- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_search(run_search: Callable[..., Run]) -> Callable[..., Run]:
    """Write a search file with changes and run it, with a proof as searches have it."""
    return lambda *given, **changes: run_search(*given, **{"proof": WHOLE_PROOF, **changes})


def scored_on(run: Run, pool: str) -> set[int]:
    return {row[0] for row in rows(run.path, "score")["score"] if row[1] == pool}


def test_who_is_scored_on_which_pool(run_search) -> None:
    run = run_search(tasks=TWO, budget={"candidates": 30}, proof={"finalists": 3})
    known = {each.id: each for each in run.candidates()}
    references = {each for each in known if known[each].kind in ("parent", "simple")}
    assert scored_on(run, "select") == references | set(run.finalists)
    kinds = [known[each].kind for each in run.finalists]
    assert kinds.count("mean") == 1
    best = run.ranking().ranked([each for each in known if known[each].kind == "candidate"])[:3]
    assert run.finalists[:3] == best
    assert {each["id"] for each in run.fact("comparators")} == references
    assert scored_on(run, "report") == {run.pick.id} | references


def test_report_chosen_scores_the_best_reference_of_each_kind(run_search) -> None:
    run = run_search(budget={"candidates": 12}, proof={"finalists": 2, "report": "chosen"})
    known = {each.id: each for each in run.candidates()}
    references = {each for each in known if known[each].kind in ("parent", "simple")}
    comparators = run.fact("comparators")
    assert [each["kind"] for each in comparators] == ["parent", "simple"]
    assert scored_on(run, "report") == {run.pick.id, *(each["id"] for each in comparators)}
    means = {each: fitness(run.objectives, values_of(known[each].scores["select"]), {}) for each in references}
    for comparator in comparators:
        rivals = [means[each] for each in references if known[each].kind == comparator["kind"]]
        assert means[comparator["id"]] == max(rivals)


def test_the_verdict(run_search) -> None:
    run = run_search(budget={"candidates": 30})
    verdict = run.verdict
    assert set(verdict) == {"gain", "interval", "claimed", "text", "comparisons", "floors", "keep"}
    assert [each["kind"] for each in verdict["comparisons"]] == ["parent"] * 3 + ["simple"] * 5
    low, high = verdict["interval"]
    assert low <= verdict["gain"] <= high
    assert low == min(each["interval"][0] for each in verdict["comparisons"])
    assert verdict["claimed"] == (low > 0)
    report = {each.id: each.scores["report"]["nearness"].value for each in run.candidates() if "report" in each.scores}
    for each in verdict["comparisons"]:
        assert each["gain"] == pytest.approx(report[run.pick.id] - report[each["id"]])
        assert each["mcnemar"]["p_value"] <= 1
    assert verdict["claimed"], "this toy is easy: thirty candidates are enough"


def test_a_search_for_a_front_judges_its_other_members(run_search) -> None:
    run = run_search(tasks=TWO, optimizer={"name": "nsga2", "popsize": 8}, budget={"candidates": 24})
    assert run.pick is not None
    assert run.verdict is not None
    members = run.verdict["front"]
    searched = {c.id for c in run.front if c.kind in ("candidate", "mean")} - {run.pick.id}
    assert {member["id"] for member in members} == searched
    assert members, "two tasks that want different merges have a front"
    for member in members:
        assert "report" in run.candidate(member["id"]).scores
        assert member["adjusted_p_value"] >= member["p_value"]
        assert run.verdict["claimed"] or not member["claimed"]
    assert "front's" in run.verdict["text"]


def test_a_search_for_one_mean_judges_its_pick_alone_unless_asked_otherwise(run_search) -> None:
    plain = run_search(tasks=TWO, budget={"candidates": 10})
    assert plain.verdict is not None
    assert "front" not in plain.verdict
    asked = run_search(out="asked", tasks=TWO, budget={"candidates": 10}, proof={"front": True, "finalists": 2})
    assert len(asked.fact("front_members")) <= 2


def test_a_front_is_chosen_from_by_preference(run_search) -> None:
    run = run_search(tasks=TWO, budget={"candidates": 20}, optimizer="nsga2")
    first, second = (objective.name for objective in run.objectives)
    select = {member.id: member.scores["select"] for member in run.front}
    for name, other in ((first, second), (second, first)):
        chosen = run.preferred({name: 1, other: 0})
        assert select[chosen.id][name].value == max(found[name].value for found in select.values())
    assert run.preferred({}).id in select
    assert run.knee.id in select
    for weights, said in (({"none": 1}, "no objective"), ({first: -1}, "from 0"), ({first: 0, second: 0}, "are 0")):
        with pytest.raises(InvalidInput, match=said):
            run.preferred(weights)


def test_item_effects_are_fitted_once_and_kept(run_search, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_search(budget={"candidates": 10})
    stored = run.fact("adjusted")
    fitted = Ranking(run.objectives, run.items("search"), {}).values
    assert {int(candidate): found for candidate, found in stored.items()} == fitted

    def again(*args: Any) -> None:
        raise AssertionError("item effects were fitted again")

    monkeypatch.setattr("evomerge.run._ranking.item_effects", again)
    assert run.ranking().values == fitted
    assert run.summary().best is not None


@pytest.mark.parametrize("ranking", ["effects", "irt"])
def test_how_far_adjusted_scores_were_from_unseen_ones_is_said(run_search, ranking: str) -> None:
    run = run_search(budget={"candidates": 12}, proof={"ranking": ranking})
    found = run.calibration
    assert found is not None
    assert found["ranking"] == ranking
    (name,) = found["objectives"]
    adjusted = {int(candidate): values[name] for candidate, values in run.fact("adjusted").items()}
    errors = [
        adjusted[c.id] - c.scores["select"][name].value
        for c in run.candidates()
        if "select" in c.scores and c.id in adjusted
    ]
    assert found["objectives"][name]["n"] == len(errors)
    assert found["objectives"][name]["mean_error"] == pytest.approx(sum(errors) / len(errors))
    assert found["objectives"][name]["mean_absolute_error"] >= abs(found["objectives"][name]["mean_error"])


def test_items_that_belong_together_widen_the_intervals(pico: dict[str, Path], tmp_path: Path) -> None:
    """The same search twice; in the second, items of like difficulty are named as clusters of ten."""
    found = {}
    for name in ("alone", "together"):
        file = write_search(tmp_path / name, pico, budget={"candidates": 12}, proof={"finalists": 2, "race": "off"})
        items = [json.loads(line) for line in (tmp_path / name / "items.jsonl").read_text().splitlines()]
        if name == "together":
            items = [{**item, "cluster": int(item["tolerance"] * 9)} for item in items]
        (tmp_path / name / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items))
        found[name] = search(file, tmp_path / name / "run")
    alone, together = found["alone"], found["together"]
    assert rows(alone.path, "score") == rows(together.path, "score")
    for first, second in zip(alone.verdict["comparisons"], together.verdict["comparisons"], strict=True):
        assert first["gain"] == second["gain"]
        assert second["interval"][1] - second["interval"][0] > 1.3 * (first["interval"][1] - first["interval"][0])
    widths = [high - low for run in (alone, together) for low, high in run.intervals(run.pick, "report").values()]
    assert widths[1] > 1.3 * widths[0]


def test_a_reference_that_nothing_beats_is_kept_and_exported(run_search, tmp_path: Path) -> None:
    """The target is near parent one, and the space cannot reach it."""
    space = {"method": "task_arithmetic", "genes": {"weight": {"per": ["model"], "range": [0, 0.2]}}}
    run = run_search(space=space, budget={"candidates": 8})
    values = {each.id: run.mean_score(each, "select") for each in run.candidates() if "select" in each.scores}
    assert run.state == "done"
    assert run.pick.kind in ("parent", "simple") and values[run.pick.id] == max(values.values())
    assert not run.verdict["claimed"]
    assert run.verdict["text"].startswith(f"Keep {run.pick.name} (")
    assert run.pick.id not in [each["id"] for each in run.verdict["comparisons"]]
    (path,) = export(run, tmp_path / "kept", formats=["recipe"])
    assert load_recipe(path).fingerprint == run.recipe(run.pick).fingerprint
    export(run, tmp_path / "model")
    assert "Keep " in (tmp_path / "model" / "README.md").read_text()


def test_a_start_recipe_that_nothing_beats_is_kept_as_the_users_own(pico: dict[str, Path], tmp_path: Path) -> None:
    models = [{"model": str(pico[name]), "parameters": {"weight": w}} for name, w in (("one", 0.9), ("two", 0.3))]
    mine = {"merge_method": "task_arithmetic", "base_model": str(pico["base"]), "models": models}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    run = search(write_search(tmp_path, pico, start=["mine.yaml"], budget={"candidates": 4}), tmp_path / "run")
    assert run.pick.kind == "control", "it is the target itself, and the first candidate only repeats it"
    assert run.verdict["text"].startswith("Keep mine.yaml (your own start recipe, candidate ")
    assert not run.verdict["claimed"]


def test_start_recipes_are_rivals(pico: dict[str, Path], tmp_path: Path) -> None:
    models = [{"model": str(pico[name]), "parameters": {"weight": w}} for name, w in (("one", 0.6), ("two", 0.1))]
    mine = {"merge_method": "task_arithmetic", "base_model": str(pico["base"]), "models": models}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    file = write_search(tmp_path, pico, start=["mine.yaml"], budget={"candidates": 8})
    for report in ("all", "chosen"):
        data = yaml.safe_load(file.read_text()) | {"proof": {"finalists": 2, "report": report}}
        file.write_text(yaml.safe_dump(data))
        run = search(file, tmp_path / report)
        assert "control" in [each["kind"] for each in run.verdict["comparisons"]], report


def pick_with(run_search: Any, out: str, **entry: Any) -> Run:
    return run_search(
        out=out, tasks=[task(), task("otherness", **entry)], budget={"candidates": 24}, proof={"finalists": 6}
    )


def test_a_floor_changes_the_pick(run_search) -> None:
    free = pick_with(run_search, "free")
    reached = free.pick.scores["select"]["otherness"].value
    candidates = [each for each in free.candidates() if each.id in scored_on(free, "select")]
    parent = next(each for each in candidates if each.name.endswith("two"))
    wanted = parent.scores["select"]["otherness"].value
    assert wanted > reached + 0.02
    bound = pick_with(run_search, "bound", floor=round(reached + 0.02, 3))
    assert bound.pick.scores["select"]["otherness"].value > reached
    relative = pick_with(run_search, "relative", floor={"parent": "two", "minus": round(wanted - reached - 0.02, 3)})
    assert relative.pick.scores["select"]["otherness"].value > reached


def test_a_floor_that_nobody_meets_picks_the_nearest(run_search) -> None:
    run = run_search(tasks=[task(floor=1.0)], budget={"candidates": 8}, proof={"finalists": 3})
    eligible = [each for each in run.candidates() if "select" in each.scores]
    assert run.fact("pick_meets_floors") is False
    assert run.pick.scores["select"]["nearness"].value == max(e.scores["select"]["nearness"].value for e in eligible)


def test_a_floor_is_part_of_the_verdict(run_search) -> None:
    run = run_search(tasks=[task(floor=0.999)], optimizer="random", budget={"candidates": 30})
    (floor,) = run.verdict["floors"]
    assert set(floor) == {"objective", "floor", "value", "interval", "met"}
    assert floor["value"] == run.pick.scores["report"]["nearness"].value < floor["floor"] == 0.999
    assert floor["interval"][0] < floor["value"] < floor["interval"][1]
    assert not floor["met"] and not run.verdict["claimed"]
    assert min(each["interval"][0] for each in run.verdict["comparisons"]) > 0
    assert run.verdict["text"].startswith("No gain claimed, because a floor is missed (nearness)")
    assert "Floor missed: nearness is 0." in run.verdict["text"]


def test_a_floor_below_a_parent_is_judged_by_the_paired_difference(run_search) -> None:
    floor = {"parent": "one", "minus": 0.05}
    run = run_search(tasks=[task(floor=floor)], budget={"candidates": 24}, proof={"finalists": 2, "report": "chosen"})
    (found,) = run.verdict["floors"]
    one = next(each for each in run.candidates() if each.name.endswith("one"))
    assert found["floor"] == pytest.approx(one.scores["report"]["nearness"].value - 0.05)
    against = next(each for each in run.verdict["comparisons"] if each["id"] == one.id)
    width = against["interval"][1] - against["interval"][0]
    assert found["interval"][1] - found["interval"][0] == pytest.approx(width)
    assert found["met"] and run.verdict["claimed"]


def test_a_floor_on_an_unknown_parent_is_refused(run_search) -> None:
    with pytest.raises(InvalidFile, match=r'tasks\.0\.floor\.parent: "five" is not one of the parents'):
        run_search(tasks=[task(floor={"parent": "five", "minus": 0.1})])


@pytest.mark.parametrize("optimizer", ["tpe", "random"])
def test_start_recipes_are_controls_and_first_proposals(pico: dict[str, Path], tmp_path: Path, optimizer: str) -> None:
    """tpe begins with the best reference, which the recipe is; random with the space's start and then the recipes."""
    models = [
        {"model": str(pico["one"]), "parameters": {"weight": 0.9}},
        {"model": str(pico["two"]), "parameters": {"weight": 0.3}},
    ]
    mine = {"merge_method": "task_arithmetic", "base_model": str(pico["base"]), "models": models}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    file = write_search(tmp_path, pico, start=["mine.yaml"], budget={"candidates": 4}, optimizer=optimizer)
    run = search(file, tmp_path / "run")
    control = next(each for each in run.candidates() if each.kind == "control")
    assert control.name == "mine.yaml"
    first = [each for each in run.candidates() if each.kind == "candidate"][optimizer == "random"]
    assert {value["value"] for value in first.recipe["models"][0]["parameters"]["weight"]} == {0.9}
    assert first.scores["search"]["nearness"].value > 0.9
    assert control.id in scored_on(run, "select")


def test_a_start_recipe_of_other_parents_is_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    mine = {"merge_method": "linear", "models": [{"model": str(pico["three"]), "parameters": {"weight": 1}}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    with pytest.raises(InvalidFile, match="none of the search's parents"):
        search(write_search(tmp_path, pico, start=["mine.yaml"]), tmp_path / "run")


# -- failures in the proof --------------------------------------------------------------------------------------------


LOST = Failure(kind="lost", reason="its worker vanished every time")


def losing(hit: Callable[[Job], bool]) -> Callable[[Setup], Any]:
    """Return what makes an executor that loses the jobs that are hit."""

    def build(setup: Setup) -> Any:
        executor: Any = create_executor(setup)
        wait = executor.wait

        def waited(timeout: float) -> Any:
            return [
                (job, replace(outcome, items=None, failure=LOST) if hit(job) else outcome)
                for job, outcome in wait(timeout)
            ]

        executor.wait = waited
        return executor

    return build


def failing(pool: str, times: int) -> Callable[[Setup], Any]:
    """Return what makes executors that lose the first jobs on a pool, all of the candidate that comes first there."""
    victims: list[dict[str, Any]] = []
    left = times

    def hit(job: Job) -> bool:
        nonlocal left
        if job.pool != pool or left <= 0:
            return False
        if not victims:
            victims.append(dict(job.document))
        same = dict(job.document) == victims[0]
        left -= same
        return same

    return losing(hit)


def failing_parent(name: str) -> Callable[[Setup], Any]:
    """Return what makes an executor on which one parent can never be scored."""
    return losing(
        lambda job: (
            job.document["merge_method"] == "passthrough" and str(job.document["models"][0]["model"]).endswith(name)
        )
    )


def test_a_parent_that_cannot_be_compared_allows_no_claim(pico: dict[str, Path], tmp_path: Path) -> None:
    """Whatever stopped it, it may be the best of all."""
    file = write_search(tmp_path, pico, optimizer="random", budget={"candidates": 30})
    run = search(file, tmp_path / "run", executor=failing_parent("one"))
    assert min(each["interval"][0] for each in run.verdict["comparisons"]) > 0 and not run.verdict["claimed"]
    text = run.verdict["text"]
    assert text.startswith("No gain claimed, because a reference that may be better could not be compared: +0.")
    assert "Not compared, as they could not be scored: " in text and "one (parent, candidate 1)" in text


def test_a_floor_that_cannot_be_checked_allows_no_claim(pico: dict[str, Path], tmp_path: Path) -> None:
    """Below a parent that could never be scored: nobody knows where it is."""
    tasks = [task(floor={"parent": "one", "minus": 0.05})]
    file = write_search(tmp_path, pico, tasks=tasks, optimizer="random", budget={"candidates": 30})
    run = search(file, tmp_path / "run", executor=failing_parent("one"))
    assert min(each["interval"][0] for each in run.verdict["comparisons"]) > 0 and not run.verdict["claimed"]
    assert run.verdict["text"].startswith("No gain claimed, because a floor could not be checked (nearness, as its par")
    assert run.verdict["floors"] == [] and "Floor not checked: nearness" in run.verdict["text"]


def test_a_run_without_report_scores_is_not_done_and_the_next_session_tries_again(
    search_file: Path, tmp_path: Path
) -> None:
    build = failing("report", 1)
    with pytest.raises(EvomergeError, match=r"could not be scored on the report pool .*the same command tries again"):
        search(search_file, tmp_path / "run", candidates=12, executor=build)
    run = Run(tmp_path / "run")
    pick = run.pick
    assert (run.state, run.verdict) == ("proving", None) and pick is not None
    run = search(search_file, tmp_path / "run", candidates=12, executor=build)
    assert run.state == "done" and run.verdict is not None
    assert run.pick.id == pick.id
    assert run.fact("proof_failures") == {}


def test_the_next_finalist_takes_the_place_of_a_pick_that_fails_again(search_file: Path, tmp_path: Path) -> None:
    build = failing("report", 2)
    with pytest.raises(EvomergeError, match="the same command tries again"):
        search(search_file, tmp_path / "run", candidates=12, executor=build)
    first = Run(tmp_path / "run").pick
    run = search(search_file, tmp_path / "run", candidates=12, executor=build)
    assert run.state == "done" and run.verdict is not None
    assert run.pick.id != first.id and run.pick.kind in ("candidate", "mean")
    values = {c.id: run.mean_score(c, "select") for c in run.candidates() if c.kind in ("candidate", "mean")}
    others = [value for identity, value in values.items() if value is not None and identity != first.id]
    assert values[run.pick.id] == max(others) <= values[first.id]
    sentence = f"{first.name} was the pick by its select scores, but could not be scored on the report pool"
    assert any(note.startswith(sentence) for note in run.fact("notes"))


def test_a_finalist_without_select_scores_is_left_out_with_a_note(search_file: Path, tmp_path: Path) -> None:
    run = search(search_file, tmp_path / "run", candidates=12, executor=failing("select", 1))
    assert run.state == "done" and run.verdict is not None
    left_out = run.candidate(run.finalists[0])
    assert "select" not in left_out.scores and run.pick.id != left_out.id
    sentence = f"{left_out.name} could not be scored on the select pool (its worker vanished every time)"
    assert any(note.startswith(sentence) for note in run.fact("notes"))
