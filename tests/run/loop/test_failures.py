"""One bad candidate never ends the night; a bad machine does, and says so."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.errors import EvomergeError, InvalidFile, NothingScored
from evomerge.optimizers import OPTIMIZERS, register
from evomerge.run import LEDGER, Run, search
from evomerge.testing.faults import faulty, raising
from tests.run.pico_search import differences, rows, search_data, task, write_search


def test_some_failures_are_recorded_and_the_run_goes_on(run_search) -> None:
    run = run_search(tasks=[task("moody")], budget={"candidates": 30})
    states = Counter(each.state for each in run.candidates() if each.kind == "candidate")
    assert run.state == "done"
    assert states["failed"] >= 3 and states["scored"] >= 10 and states.total() == 30
    failed = next(each for each in run.candidates() if each.state == "failed")
    assert "raised RuntimeError: not this one" in failed.failure.reason
    assert "Traceback" in failed.failure.detail
    assert failed.scores == {}
    told = {row[2]: row[4] for row in rows(run.path, "step")["step"] if row[1] == "tell"}
    for each in run.candidates():
        if each.kind == "candidate":
            assert (told[each.id] is None) == (each.state == "failed")
    attempts = {row[0]: row[-2] for row in rows(run.path, "candidate")["candidate"]}
    assert attempts[failed.id] == 2, "an error is tried once more"
    assert run.summary().failures["failed"] >= states["failed"]


ODD = {
    "nan": "returned nan for item",
    "short": "returned 39 values for 40 items",
    "words": "returned 'good' for item",
    "nothing": "returned None",
    "huge": "too large to average",
    "leaving": "SystemExit: 3",
}


@pytest.mark.parametrize("function", ODD)
def test_a_scorer_that_returns_nonsense_fails_its_candidates_only(function: str, run_search, tmp_path: Path) -> None:
    with pytest.raises(NothingScored, match="no candidate could be scored"):
        run_search(tasks=[task(function)], budget={"candidates": 3})
    run = Run(tmp_path / "run")
    searched = [each for each in run.candidates() if each.kind == "candidate"]
    assert [each.state for each in searched] == ["failed"] * 3
    assert all(ODD[function] in each.failure.reason for each in searched), searched[0].failure.reason
    assert all(each.state == "scored" for each in run.candidates() if each.kind != "candidate")


def test_nothing_scored_is_said_and_exits_with_3(run_search) -> None:
    with pytest.raises(NothingScored, match="no candidate could be scored") as caught:
        run_search(tasks=[task("parents_only")], budget={"candidates": 4})
    assert caught.value.exit_code == 3


def test_a_long_row_of_failures_is_the_machines_fault(run_search, tmp_path: Path) -> None:
    with pytest.raises(EvomergeError, match=r"30 candidates in a row failed.*no candidate") as caught:
        run_search(tasks=[task("parents_only")], budget={"candidates": 200})
    assert not isinstance(caught.value, NothingScored)
    run = Run(tmp_path / "run")
    assert run.state == "searching", "repaired, the same command goes on"
    assert len(run.candidates()) == 30 + 8


def test_references_that_all_fail_end_the_run_at_once_and_are_tried_again(
    run_search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scorer's own data may have been missing: its code is the same when the command is repeated."""
    changes = {"tasks": [task("needs_a_file")], "budget": {"candidates": 4}, "optimizer": "guided"}
    with pytest.raises(NothingScored, match=r"none of the 8 references could be scored.*needs\.txt") as caught:
        run_search(**changes)
    assert "explain" in str(caught.value)
    run = Run(tmp_path / "run")
    assert {each.state for each in run.candidates()} == {"failed"} and len(run.candidates()) == 8
    assert "Traceback" in run.candidates()[0].failure.detail
    Path(f"{tmp_path}/needs.txt").write_text("here")
    run = run_search(**changes)
    assert run.state == "done" and {each.state for each in run.candidates()} == {"scored"}
    assert "failed" not in {kind for kind, count in run.summary().failures.items() if count}


def with_nan(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.2.mlp.up_proj.weight"][1, 1] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def broken(pico: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The parents, of which `two` holds a NaN."""
    import shutil

    copies = {name: Path(shutil.copytree(path, tmp_path / "models" / name)) for name, path in pico.items()}
    with_nan(copies["two"])
    return copies


def test_a_nan_in_a_parent_makes_its_merges_degenerate(broken: dict[str, Path], tmp_path: Path) -> None:
    """Weight 0 does not help: the parent itself is at fault, and is named."""
    file = write_search(tmp_path, broken, budget={"candidates": 5})
    with pytest.raises(NothingScored):
        search(file, tmp_path / "run")
    run = Run(tmp_path / "run")
    states = {each.name: each for each in run.candidates()}
    assert states[str(broken["one"])].state == "scored"
    assert states[str(broken["two"])].state == "degenerate"
    searched = [each.name for each in run.candidates() if each.kind == "candidate"]
    for name in (str(broken["two"]), "uniform average", *searched):
        assert states[name].state == "degenerate", name
        reason = states[name].failure.reason
        assert str(broken["two"]) in reason and "holds NaN or infinity already" in reason, name


def test_a_merge_that_overflows_is_degenerate(run_search) -> None:
    space = {"method": "task_arithmetic", "genes": {"weight": {"per": ["model"], "range": [0, 3e38], "start": 0}}}
    run = run_search(space=space, optimizer="tpe", budget={"candidates": 6})
    degenerate = [each for each in run.candidates() if each.state == "degenerate"]
    assert run.state == "done"
    assert degenerate and all("finite" in e.failure.reason or "constant" in e.failure.reason for e in degenerate)
    assert run.pick.state == "scored"


def test_a_stack_without_a_layer_is_infeasible(run_search) -> None:
    space = {"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [0, 1]}}}
    tasks = [task("farness", direction="min")]
    run = run_search(space=space, tasks=tasks, optimizer="random", budget={"candidates": 30})
    empty = [each for each in run.candidates() if each.point and sum(each.point.integers) == 0]
    assert run.state == "done"
    assert empty and all(each.state == "infeasible" for each in empty)
    assert "no layer" in empty[0].failure.reason
    worker = [row for row in rows(run.path, "candidate")["candidate"] if row[0] == empty[0].id]
    assert worker[0][-2] == 1, "what cannot be built is not tried again"


def test_a_scorer_that_reseeds_the_global_generators_changes_nothing(run_search) -> None:
    """The optimizer has a stream of its own."""
    plain = run_search(out="plain", budget={"candidates": 10})
    reseeded = run_search(out="reseeded", tasks=[task("reseeding")], budget={"candidates": 10})
    points = [[each.point for each in run.candidates() if each.kind == "candidate"] for run in (plain, reseeded)]
    assert len(set(points[0])) > 8
    assert points[0][:8] == points[1][:8], "the first generation depends on the seed alone"


def test_a_ledger_that_turned_bad_is_refused_before_anything_is_written(run_search, pico, tmp_path: Path) -> None:
    run_search(budget={"candidates": 3})
    ledger = tmp_path / "run" / LEDGER
    ledger.write_bytes(ledger.read_bytes()[:5000])
    before = ledger.read_bytes()
    with pytest.raises(EvomergeError, match="damaged"):
        search(tmp_path / "search.yaml", tmp_path / "run")
    assert ledger.read_bytes() == before
    with pytest.raises(InvalidFile):
        search({**search_data(pico), "budget": {}}, tmp_path / "other")
    assert not (tmp_path / "other").exists(), "an invalid file leaves no run folder"


def test_lost_and_late_results_are_those_of_their_candidates_alone(run_search: Callable[..., Run]) -> None:
    """Of 8 references and 12 candidates, the third candidate's worker dies; another one's hangs for a while."""
    run = run_search(budget={"candidates": 12}, overrides={"executor": faulty({10: "worker dies", 14: "worker hangs"})})
    searched = [each for each in run.candidates() if each.kind == "candidate"]
    assert run.state == "done" and len(searched) == 12
    (lost,) = (each for each in searched if each.state != "scored")
    assert (lost.state, lost.failure.kind) == ("lost", "lost")
    told = Counter(row[2] for row in rows(run.path, "step")["step"] if row[1] == "tell")
    assert told == Counter(each.id for each in searched)


@pytest.mark.parametrize("call", ["ask", "tell"])
def test_an_optimizer_that_raises_is_named_and_the_run_goes_on_when_it_is_corrected(
    call: Any, run_search: Callable[..., Run], tmp_path: Path
) -> None:
    changes = {"optimizer": "odd", "budget": {"candidates": 8}}
    register(raising(OPTIMIZERS["random"], name="odd", at=5, call=call))
    with pytest.raises(EvomergeError, match="the optimizer odd raised RuntimeError: out of ideas; what was scored"):
        run_search(**changes)
    assert Run(tmp_path / "run").state == "searching"
    register(raising(OPTIMIZERS["random"], name="odd", at=1000))
    run = run_search(**changes)
    assert run.state == "done" and run.summary().finished == 8
    assert differences(run.path, run_search("whole", **changes).path) == []
