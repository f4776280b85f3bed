"""Run folders of earlier versions open, resume and export; tests/golden/old_runs/README.md says how they were made."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

import evomerge
from evomerge.cli import cli
from evomerge.results import export
from evomerge.run import Run, search

OLD = Path(__file__).parents[1] / "golden" / "old_runs"
CANDIDATE = "SELECT id, kind, generation, subset, fingerprint, state FROM candidate ORDER BY id"
SCORE = "SELECT candidate, pool, objective, value, stderr, n FROM score ORDER BY candidate, pool, objective"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder with the parents, the search file and both runs, as if they had been made there."""
    folder = tmp_path / "project"
    shutil.copytree(OLD, folder)
    for run in ("finished", "interrupted"):
        with sqlite3.connect(folder / run / "ledger.sqlite") as ledger:
            ledger.execute("UPDATE meta SET value = ? WHERE key = 'folder'", (json.dumps(str(folder)),))
        ledger.close()
    return folder


def table(run: Path, query: str) -> list[list[Any]]:
    """Return the rows of a query on a run's ledger."""
    with sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
        found = [list(row) for row in ledger.execute(query)]
    ledger.close()
    return found


def test_an_interrupted_run_resumes_as_it_would_have_then(project: Path) -> None:
    """All but its pick: its candidates are no better than its best parent, which is kept today."""
    control = json.loads((OLD / "control.json").read_text())
    run = search(project / "search.yaml", project / "interrupted")
    assert run.state == "done"
    assert table(run.path, CANDIDATE) == control["candidates"]
    before_report = [row for row in control["scores"] if row[1] != "report"]
    assert [row for row in table(run.path, SCORE) if row[1] != "report"] == before_report
    assert run.finalists == control["finalists"]
    assert [candidate.id for candidate in run.front] == control["front"]
    best = max(row[3] for row in before_report if row[1] == "select")
    tied = [row[0] for row in before_report if row[1] == "select" and row[3] == best]
    assert control["pick"] in tied and run.pick is not None and run.pick.id == min(tied)
    assert run.verdict is not None and not run.verdict["claimed"] and run.verdict["text"].startswith("Keep ")
    assert run.verdict["gain"] == control["verdict"]["gain"]
    compared = {row["id"] for row in run.verdict["comparisons"]}
    assert compared == {3, 1}, "the best simple merge, as the run was started with, and the parent of its floor"
    assert [floor["met"] for floor in run.verdict["floors"]] == [True]


def test_a_finished_run_opens_and_is_left_as_it_is(project: Path) -> None:
    before = table(project / "finished", CANDIDATE), table(project / "finished", SCORE)
    assert search(project / "search.yaml", project / "finished").state == "done"
    assert (table(project / "finished", CANDIDATE), table(project / "finished", SCORE)) == before


def test_a_finished_run_is_read_by_every_command(project: Path) -> None:
    run = str(project / "finished")
    texts = {}
    for words in (["front", run, "--json", "--all"], ["status", run], ["explain", run, "28"]):
        result = CliRunner().invoke(cli, words, standalone_mode=False)
        assert not result.exit_code and not result.exception, words
        texts[words[0]] = result.stdout
    shown = json.loads(texts["front"])
    assert (shown["version"], shown["state"], shown["pick"]) == (1, "done", 28)
    assert len(shown["candidates"]) == 33
    assert shown["verdict"]["claimed"] is False


def test_a_finished_run_is_exported(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    export(Run(project / "finished"), tmp_path / "out", formats=["hf", "mergekit", "recipe"])
    evomerge.merge(tmp_path / "out" / "mergekit.yaml", tmp_path / "again")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert "license" in (tmp_path / "out" / "README.md").read_text()
