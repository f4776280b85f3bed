"""Resuming equals never having stopped, whatever stopped the run; what may change between two calls."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.optimizers import create
from evomerge.run import Run, search
from evomerge.testing.faults import DriverDied, faulty
from tests.run.pico_search import differences, rows, task, write_search

RACE = {"finalists": 2}  # a proof of several parts, any of which may be the last thing that a driver did
TWO = [task(), task("otherness", weight=2)]
STACK = {"method": "passthrough", "genes": {"source": {"per": "layer"}, "repeat": {"per": "layer", "range": [0, 2]}}}
HYBRID = {
    "kind": "hybrid",
    "parameter_space": {"method": "task_arithmetic", "genes": {"weight": {"per": "model", "range": [0, 1]}}},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "cma": {"budget": {"candidates": 22}},
    "cmaes_lra": {"optimizer": "cmaes_lra", "budget": {"candidates": 18}},
    "tpe": {"optimizer": {"name": "tpe", "generation_size": 8}, "tasks": TWO, "budget": {"candidates": 22}},
    "nsga2": {"optimizer": {"name": "nsga2", "popsize": 8}, "tasks": TWO, "budget": {"candidates": 22}},
    "stack": {"space": STACK, "budget": {"candidates": 18}},
    "data flow": {"space": {"kind": "data_flow"}, "budget": {"candidates": 20}},
    "hybrid": {"space": HYBRID, "budget": {"candidates": 40}},
    "m2n2": {"optimizer": {"name": "m2n2", "archive": 5}, "tasks": TWO, "budget": {"candidates": 22}},
    "failures": {"tasks": [task("moody")], "budget": {"candidates": 18}},
}


def lasting(run: Path) -> dict[str, list[Any]]:
    """Return what never changes in a ledger: rows, but of the select pool each item's score, whose rows grow."""
    found: dict[str, list[Any]] = dict(rows(run, "score", "item", "step"))
    select = [row for row in found["item"] if row[1] == "select"]
    for table in ("score", "item"):
        found[table] = [row for row in found[table] if row[1] != "select"]
    scores = [
        ((candidate, objective, item), value)
        for candidate, _, objective, ids, values, *_ in select
        for item, value in zip(json.loads(ids), json.loads(values), strict=True)
    ]
    return found | {"select": scores}


def assert_kept(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> None:
    """Hold what `lasting` returned of one run at two moments against each other."""
    for table, kept in before.items():
        if table == "select":
            assert set(kept) <= set(after[table]), "a committed score of an item changed"
        else:
            assert after[table][: len(kept)] == kept, f"{table}: a committed row changed"


@pytest.mark.parametrize("name", SEARCHES)
def test_a_run_that_died_again_and_again_ends_like_one_that_did_not(
    name: str, pico: dict[str, Path], tmp_path: Path
) -> None:
    file = write_search(tmp_path, pico, **{"proof": RACE, **SEARCHES[name]})
    assert search(file, tmp_path / "whole").state == "done"
    chance = random.Random(name)
    deaths = 0
    for _ in range(100):
        jobs, scored = chance.randrange(2, 28), chance.random() < 0.5
        before = lasting(tmp_path / "torn") if deaths else {}
        try:
            run = search(
                file, tmp_path / "torn", executor=faulty({jobs: "driver dies late" if scored else "driver dies"})
            )
            break
        except DriverDied:
            deaths += 1
        after = lasting(tmp_path / "torn")
        assert_kept(before, after)
    assert run.state == "done"
    assert deaths >= 2
    assert differences(tmp_path / "whole", tmp_path / "torn") == []


# -- what may change between two calls --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dead(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search file whose run in `run` died after 15 jobs."""
    folder = tmp_path_factory.mktemp("dead")
    file = write_search(folder, pico, budget={"candidates": 20})
    with pytest.raises(DriverDied):
        search(file, folder / "run", executor=faulty({15: "driver dies"}))
    return folder


@pytest.fixture
def begun(dead: Path, tmp_path: Path) -> Path:
    """A search file beside its dead run, for one test alone."""
    shutil.copytree(dead, tmp_path, dirs_exist_ok=True)
    return tmp_path / "search.yaml"


def change(file: Path, **changes: Any) -> None:
    data = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**data, **changes}))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 4}, r"seed: .*was 3, now 4"),
    "range": (
        {"space": {"method": "task_arithmetic", "genes": {"weight": {"per": ["model", "layer"], "range": [0, 1.4]}}}},
        r"space\.genes\.weight\.range: .*was \[0, 1\.5\], now \[0, 1\.4\]",
    ),
    "task": ({"tasks": [task("otherness")]}, r"tasks\.nearness: .*was .*, now absent"),
    "weight": ({"tasks": [task(weight=3)]}, r"tasks\.nearness\.weight: .*was 1\.0, now 3\.0"),
    "floor": ({"tasks": [task(floor=0.5)]}, r"tasks\.nearness\.floor: .*was absent, now 0\.5"),
    "relative floor": (
        {"tasks": [task(floor={"parent": "one", "minus": 0.1})]},
        r"tasks\.nearness\.floor: .*one minus",
    ),
    "pools": ({"pools": {"search": 90, "select": 80, "report": 100}}, r"pools\.search: .*was 100, now 90"),
    "subset": ({"subset": {"size": 30}}, r"subset\.size: .*was 40, now 30"),
    "optimizer": ({"optimizer": "tpe"}, r"optimizer\.name: .*was 'cma', now 'tpe'"),
    "batch size": ({"workers": {"count": 0, "batch_size": 8}}, r"batch_size: .*was 64, now 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_the_meaning_of_a_score_is_refused(name: str, begun: Path) -> None:
    changes, sentence = REFUSED[name]
    before = rows(begun.parent / "run")
    change(begun, **changes)
    with pytest.raises(InvalidFile, match=sentence) as caught:
        search(begun, begun.parent / "run")
    assert "differs from what this run was started with; use another --out" in str(caught.value)
    assert rows(begun.parent / "run") == before


def test_other_weights_of_a_parent_are_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    mine = {name: Path(shutil.copytree(path, tmp_path / "models" / name)) for name, path in pico.items()}
    file = write_search(tmp_path, mine, budget={"candidates": 5})
    with pytest.raises(DriverDied):
        search(file, tmp_path / "run", executor=faulty({5: "driver dies"}))
    shutil.copyfile(mine["three"] / "model.safetensors", mine["one"] / "model.safetensors")
    with pytest.raises(InvalidFile, match=r"parents\..*one: differs from what this run was started with"):
        search(file, tmp_path / "run")


def test_another_scorer_file_is_refused(begun: Path) -> None:
    scorers = begun.parent / "near.py"
    scorers.write_text(scorers.read_text().replace("0.9, 0.3", "0.9, 0.4"))
    with pytest.raises(InvalidFile, match=r"tasks\.nearness\.scorer_digest"):
        search(begun, begun.parent / "run")


def test_budget_and_workers_may_change_until_the_proof(begun: Path) -> None:
    out = begun.parent / "run"
    change(begun, workers={"count": 0, "threads": 2}, budget={"candidates": 30})
    assert search(begun, out, candidates=25).state == "done"
    assert Run(out).summary().finished == 25
    with pytest.raises(InvalidInput, match=r"is finished.*start a new run"):
        search(begun, out, candidates=40)
    assert search(begun, out, candidates=25, workers=1).state == "done", "nothing is left to do, so nothing starts"


def test_a_library_that_now_proposes_other_points_is_told_the_recorded_ones(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade of an optimizer: same calls, other points."""
    from evomerge.run import SilentObserver

    def upgraded(name: str, domain: Any, *, seed: int, **rest: Any) -> Any:
        return create(name, domain, seed=seed + 1, **rest)

    said: list[str] = []

    class Listening(SilentObserver):
        def say(self, line: str) -> None:
            said.append(line)

    for number, optimizer in enumerate(("cma", "tpe", "random")):
        said.clear()
        file = write_search(tmp_path, pico, optimizer=optimizer, budget={"candidates": 16})
        out = tmp_path / f"run{number}"
        with pytest.raises(DriverDied):
            search(file, out, executor=faulty({19: "driver dies"}))
        before = rows(out, "score", "step")
        with monkeypatch.context() as patch:
            patch.setattr("evomerge.run.loop._resume.create", upgraded)
            run = search(file, out, observer=Listening())
        assert run.state == "done", optimizer
        assert any("it gets the recorded ones instead" in line for line in said), optimizer
        after = rows(out, "score", "step")
        assert all(after[table][: len(kept)] == kept for table, kept in before.items())
        assert run.summary().finished == 16


def test_a_finished_run_is_left_as_it_is(pico: dict[str, Path], tmp_path: Path) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 8})
    search(file, tmp_path / "run")
    before = rows(tmp_path / "run")
    assert search(file, tmp_path / "run").state == "done"
    assert rows(tmp_path / "run") == before


def test_the_run_folder_must_be_a_folder(search_file: Path) -> None:
    taken = search_file.parent / "taken"
    taken.write_text("a file")
    for out in (taken, taken / "below"):
        with pytest.raises(InvalidInput, match="cannot be a run folder"):
            search(search_file, out)
