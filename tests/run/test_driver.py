"""The driver: time for the proof, library versions, budgets after the search, the log, objects given by the caller."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.optimizers import OPTIMIZERS, OptimizerSpec, create
from evomerge.records import Domain, Point
from evomerge.results import export, status_lines
from evomerge.run import (
    JobPace,
    Ledger,
    Run,
    Setup,
    SilentObserver,
    check_search,
    cost_of,
    create_executor,
    proof_seconds,
    search,
    search_end,
)
from evomerge.testing.faults import DriverDied, faulty
from tests.run.pico_search import search_data, task, write_search


class Listening(SilentObserver):
    """Keeps the sentences that it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


def wrapped(change: Callable[[int, Any], Any]) -> Callable[[Setup], Any]:
    """Return an executor whose outcomes are changed: (number of the outcome, outcome) -> outcome."""

    def build(setup: Setup) -> Any:
        executor = create_executor(setup)
        wait, seen = executor.wait, 0

        def changed(timeout: float) -> Any:
            nonlocal seen
            found = []
            for job, outcome in wait(timeout):
                found.append((job, change(seen, outcome)))
                seen += 1
            return found

        executor.wait = changed  # type: ignore[method-assign]
        return executor

    return build


# -- hours ------------------------------------------------------------------------------------------------------------


def test_a_cold_first_job_does_not_end_the_search(pico: dict[str, Path], tmp_path: Path) -> None:
    """One job of 30 s says nothing of the next: with 72 s, the proof seemed to take longer than the hours."""
    file = write_search(tmp_path, pico, budget={"hours": 72 / 3600, "candidates": 12})
    cold = wrapped(lambda number, outcome: replace(outcome, seconds=30.0) if number == 0 else outcome)
    assert search(file, tmp_path / "run", executor=cold).summary().finished == 12


def test_slow_jobs_leave_time_for_the_proof_but_some_candidates_are_asked_for(
    pico: dict[str, Path], tmp_path: Path
) -> None:
    file = write_search(tmp_path, pico, budget={"hours": 72 / 3600, "candidates": 40})
    slow = wrapped(lambda number, outcome: replace(outcome, seconds=20.0))
    assert 4 <= search(file, tmp_path / "run", executor=slow).summary().finished < 40


def test_the_pace_is_a_line_through_the_medians_of_warm_jobs() -> None:
    pace = JobPace()
    assert pace.job_seconds(10) is None
    pace.add("a", 100, 50.0)
    assert pace.job_seconds(10) == 5.0, "a cold job is better than nothing"
    for seconds in (3.0, 2.0, 90.0):
        pace.add("a", 100, seconds)
    assert pace.job_seconds(100) == 3.0
    assert pace.job_seconds(50) == 3.0, "one size: building may be all of it"
    assert pace.job_seconds(200) == 6.0
    pace.add("a", 40, 0.0)
    assert pace.warm_jobs == 3, "a repeat takes no time and says nothing"
    for seconds in (1.2, 1.2, 1.2):
        pace.add("a", 40, seconds)
    assert pace.job_seconds(100) == pytest.approx(3.0)
    assert pace.job_seconds(70) == pytest.approx(2.1)


def test_the_reserve_is_capped_while_little_is_known(search_file: Path) -> None:
    setup = check_search(search_file, hours=1.0)
    pace = JobPace()
    assert search_end(setup, pace, workers=1, asked=0) == 3600
    pace.add("a", 100, 500.0)
    assert search_end(setup, pace, workers=1, asked=0) == 3600, "the first candidates are asked for anyhow"
    assert search_end(setup, pace, workers=1, asked=4) == 3600 * 0.75
    for _ in range(3):
        pace.add("a", 100, 1.0)
    expected = proof_seconds(setup, pace, 1)
    assert expected is not None
    assert search_end(setup, pace, workers=1, asked=4) == pytest.approx(3600 - 1.2 * expected)
    quarter = proof_seconds(setup, pace, 4)
    assert quarter is not None and quarter < expected / 3
    assert search_end(check_search(search_file), pace, workers=1, asked=4) is None


def test_the_cost_states_references_search_and_proof(search_file: Path) -> None:
    cost = cost_of(check_search(search_file))
    assert cost is not None and cost.search is not None and cost.total is not None
    assert cost.references > 0 and cost.proof > cost.references
    assert cost.total == pytest.approx(cost.references + cost.search + cost.proof)
    bounded = cost_of(check_search(search_file, hours=1))
    assert bounded is not None
    data = yaml.safe_load(search_file.read_text())
    search_file.write_text(yaml.safe_dump({**data, "budget": {"hours": 1}}))
    unbounded = cost_of(check_search(search_file))
    assert unbounded is not None and unbounded.search is None and unbounded.total is None and unbounded.proof > 0


# -- what a resumed run compares --------------------------------------------------------------------------------------


def set_meta(run: Path, key: str, change: Callable[[Any], Any]) -> None:
    ledger = Ledger.resume(run / "ledger.sqlite")
    ledger.set_meta(key, change(ledger.meta(key)))
    ledger.close()


def begun(pico: dict[str, Path], folder: Path, jobs: int) -> Path:
    file = write_search(folder, pico, budget={"candidates": 10})
    with pytest.raises(DriverDied):
        search(file, folder / "run", executor=faulty({jobs: "driver dies late"}))
    return file


def test_other_library_versions_are_said_and_recorded(pico: dict[str, Path], tmp_path: Path) -> None:
    file = begun(pico, tmp_path, 12)
    run = tmp_path / "run"
    unscored = min(candidate.id for candidate in Run(run).candidates() if candidate.state == "running")
    set_meta(run, "versions", lambda versions: {**versions, "torch": "1.0", "cma": "2.0", "ray": "0.1"})
    observer = Listening()
    finished = search(file, run, observer=observer)
    said = [line for line in observer.said if "library versions" in line]
    assert len(said) == 1
    assert said[0].startswith(f"from candidate {unscored} on") and "torch was 1.0, now " in said[0]
    assert "cma was 2.0" in said[0] and "ray" not in said[0]
    (change,) = finished.fact("version_changes")
    assert change["from_candidate"] == unscored and set(change["changed"]) == {"torch", "cma"}
    assert said[0] in finished.notes and f"note: {said[0]}" in status_lines(finished, finished.summary())
    export(finished, tmp_path / "best")
    assert said[0][1:] in (tmp_path / "best" / "README.md").read_text(encoding="utf-8")
    assert search(file, run).fact("version_changes") == [change], "said once"


def test_other_versions_in_the_middle_of_the_proof_are_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    file = begun(pico, tmp_path, 8 + 10 + 3)
    run = tmp_path / "run"
    assert Run(run).state == "proving"
    set_meta(run, "versions", lambda versions: {**versions, "transformers": "1.0"})
    with pytest.raises(InvalidInput, match=r"scored by other library versions \(transformers was 1\.0, now .*install"):
        search(file, run)
    set_meta(run, "versions", lambda versions: {**Run(run).fact("versions"), "transformers": versions["numpy"]})
    set_meta(run, "versions", lambda versions: {k: v for k, v in versions.items() if k != "transformers"})
    assert search(file, run).state == "done", "what an older evomerge did not record is not compared"


def test_a_larger_budget_after_the_search_is_refused_with_the_right_sentence(
    pico: dict[str, Path], tmp_path: Path
) -> None:
    references = 8
    sentences: Mapping[int | None, str] = {
        references + 10 + 3: r"choosing among its finalists .*report items are unseen",
        None: "is finished, and its report items have been looked at",
    }
    for jobs, sentence in sentences.items():
        folder = tmp_path / str(jobs)
        if jobs is None:
            file = write_search(folder, pico, budget={"candidates": 10})
            search(file, folder / "run")
        else:
            file = begun(pico, folder, jobs)
        with pytest.raises(InvalidInput, match=sentence) as caught:
            search(file, folder / "run", candidates=20)
        assert "used up" not in str(caught.value)
        assert search(file, folder / "run").state == "done", "the same budget goes on"


def test_the_default_budget_is_the_same_written_out(pico: dict[str, Path], tmp_path: Path) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 3})
    search(file, tmp_path / "run")
    assert search(file, tmp_path / "run", candidates=3).state == "done"


# -- the folder -------------------------------------------------------------------------------------------------------


def test_the_log_has_a_line_for_each_event(pico: dict[str, Path], tmp_path: Path) -> None:
    file = write_search(tmp_path, pico, tasks=[task("moody")], budget={"candidates": 12})
    observer = Listening()
    search(file, tmp_path / "run", observer=observer)
    lines = (tmp_path / "run" / "logs" / "run.log").read_text().splitlines()
    texts = [line[20:] for line in lines]
    assert observer.said and set(observer.said) <= set(texts)
    assert [text.split(":")[0] for text in texts if text.split(":")[0] in ("searching", "selecting", "reporting")] == [
        "searching",
        "selecting",
        "reporting",
    ]
    assert texts[-1] == "done"
    with pytest.raises(DriverDied):
        search(file, tmp_path / "second", executor=faulty({5: "driver dies late"}))
    assert "ended by DriverDied" in (tmp_path / "second" / "logs" / "run.log").read_text()


def test_two_searches_of_one_process_in_one_folder(pico: dict[str, Path], tmp_path: Path) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 4})
    inside, go_on = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def slow(number: int, outcome: Any) -> Any:
        inside.set()
        go_on.wait(60)
        return outcome

    def first() -> None:
        try:
            search(file, tmp_path / "run", executor=wrapped(slow))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(InvalidInput, match="is working on this run"):
        search(file, tmp_path / "run")
    go_on.set()
    thread.join()
    assert not failures
    assert search(file, tmp_path / "run").state == "done"


def test_relative_and_odd_names(pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wörk 空 'q'"
    file = write_search(folder, pico, budget={"candidates": 2})
    monkeypatch.chdir(folder)
    assert search(file.name, "rün/a b").state == "done"
    assert search(Path(file.name), "rün/a b").state == "done"


# -- objects of the caller's ------------------------------------------------------------------------------------------


def grid(domain: Domain, *, objectives: int, seed: int, start: Point | None, options: Mapping[str, Any]) -> Any:
    """An optimizer that is another one under its own name."""
    found = create("random", domain, objectives=objectives, seed=seed, start=start, options=dict(options))

    class Grid:
        name = "lattice"

        def __getattr__(self, name: str) -> Any:
            return getattr(found, name)

    return Grid()


GRID = OptimizerSpec(
    name="lattice", description="for tests", options=OPTIMIZERS["random"].options, create=grid, scalar=False
)


def nearness(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    """A scorer that is a function."""
    norm = float(dict(model.named_parameters())["model.layers.1.mlp.down_proj.weight"].float().norm())
    return [1.0 if norm * item["factor"] % 1 > 0.5 else 0.0 for item in items]


def test_optimizer_space_tasks_and_trackers_as_objects(pico: dict[str, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    items = [{"factor": 1 + i / 7} for i in range(300)]
    data = search_data(pico, budget={"candidates": 4}, tasks=[{"scorer": nearness, "items": items}])
    space = check_search(data).space
    without = {key: value for key, value in data.items() if key != "space"}
    run = search(without, "run", optimizer=GRID, space=space)
    assert run.state == "done" and run.fact("optimizer") == "lattice"
    identity = run.fact("identity")
    assert identity["optimizer_object"].endswith("test_driver.grid")
    assert identity["space"]["object"] == "evomerge.space.merge.MergeSpace" and identity["space"]["description"]
    assert search(without, "run", optimizer=GRID, space=space).state == "done"
    with pytest.raises(InvalidFile, match=r"optimizer.*was .*lattice"):
        search(without, "run", space=space)
    with pytest.raises(InvalidFile, match="space: is required but missing"):
        search(without, "run", optimizer=GRID)
    resolved = yaml.safe_load(Path("run/search.yaml").read_text())
    assert resolved["space"] == {"object": "evomerge.space.merge.MergeSpace"}
    with pytest.raises(InvalidFile, match=r"an object of Python; give it again as evomerge\.search\(space="):
        check_search({**without, "space": resolved["space"]})


def test_a_tracker_that_is_none_is_refused(search_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected an object with a name and the methods started"):
        search(search_file, tmp_path / "run", trackers=["jsonl"])  # type: ignore[list-item]


# -- every section is checked -----------------------------------------------------------------------------------------


def problems_of(file: Path, **changes: Any) -> tuple[list[str], tuple[str, ...]]:
    data = {**yaml.safe_load(file.read_text()), **changes}
    file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    with pytest.raises(InvalidFile) as caught:
        check_search(file)
    return [str(problem) for problem in caught.value.problems], caught.value.unchecked


def test_an_unknown_space_does_not_hide_a_wrong_optimizer_option(search_file: Path) -> None:
    problems, unchecked = problems_of(search_file, space="layerwise_tys", optimizer={"name": "cma", "popsiz": 8})
    assert len(problems) == 2
    assert any('Did you mean "layerwise_ties"' in problem for problem in problems)
    assert any('Did you mean "popsize"' in problem for problem in problems)
    assert unchecked == (f"{search_file}: optimizer: is not fully checked until space is corrected",)


def test_missing_parents_hide_nothing(search_file: Path) -> None:
    problems, unchecked = problems_of(
        search_file,
        parents=None,
        optimizer="cmaa",
        trackers=["jsnol"],
        tasks=[task("nearnes")],
        pools={"search": 0},
        seed=-1,
    )
    for part in ("parents: is required", '"cma"', '"jsonl"', '"nearness"', "pools.search: found 0", "seed: found -1"):
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == 6
    assert any("space: is not fully checked until parents is corrected" in line for line in unchecked)


def test_broken_tasks_hide_nothing(search_file: Path) -> None:
    problems, _ = problems_of(search_file, tasks=[{"weight": 2}], space="layerwise_tys", start=["none.yaml"])
    for part in ("tasks.0: needs exactly one of task:", "layerwise_ties", "no such file"):
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == 3
