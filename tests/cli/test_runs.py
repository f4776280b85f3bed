"""Listing, comparing and starting runs, and how a run looks in a notebook."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import evomerge
from evomerge.cli import cli
from evomerge.errors import InvalidFile, InvalidInput
from evomerge.run import LEDGER, Run
from tests.large_run import make_large_run

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"


def run(*arguments: object) -> Result:
    """Call a verb in this process, output and messages apart."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def folder(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of all kinds: done, made with another seed, interrupted, damaged."""
    made = tmp_path_factory.mktemp("runs")
    shutil.copytree(finished_run, made / "a" / "done")
    make_large_run(made / "large", 40)
    make_large_run(made / "other", 40, seed=1)
    shutil.copytree(OLD_RUNS / "interrupted", made / "interrupted")
    (made / "damaged").mkdir()
    (made / "damaged" / LEDGER).write_bytes(b"no ledger" * 100)
    return made


def test_runs_lists_whatever_lies_in_a_folder(folder: Path) -> None:
    text = run("runs", folder).stdout
    for name in ("a/done", "large", "interrupted", "damaged", "is damaged or no ledger", "gain", "searching"):
        assert name in text, name
    rows = {Path(row["run"]).name: row for row in json.loads(run("runs", folder, "--json").stdout)["runs"]}
    assert rows["done"]["pick"] == Run(folder / "a" / "done").fact("pick")
    assert rows["interrupted"]["gain"] is None and rows["damaged"]["problem"]


def test_a_folder_without_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no run in it"):
        raise run("runs", tmp_path).exception or AssertionError


def test_a_run_compared_with_itself_has_no_gain(folder: Path) -> None:
    document = json.loads(run("compare", folder / "large", folder / "large", "--json").stdout)
    assert document["gain_of_second"]["gain"] == 0.0
    low, high = document["gain_of_second"]["interval"]
    assert low <= 0.0 <= high
    text = run("compare", folder / "large", folder / "large").stdout
    assert "neither better nor worse" in text and "arithmetic, report" in text


def test_runs_on_other_items_are_not_paired(folder: Path) -> None:
    document = json.loads(run("compare", folder / "large", folder / "other", "--json").stdout)
    assert document["gain_of_second"] is None and "seed" in document["not_paired_because"]
    assert "cannot be compared item by item" in run("compare", folder / "large", folder / "interrupted").stdout


def test_export_says_once_what_to_use_instead_and_writes_the_pick(finished_run: Path, tmp_path: Path) -> None:
    path = shutil.copytree(finished_run, tmp_path / "run")
    assert "note: " not in run("export", path, tmp_path / "gained", "--format", "recipe").stderr
    rival = Run(path).verdict["comparisons"][0]
    with contextlib.closing(sqlite3.connect(path / LEDGER)) as db, db:
        keep = "json_set(value, '$.claimed', json('false'), '$.keep', ?)"
        db.execute(f"UPDATE meta SET value = {keep} WHERE key = 'verdict'", (rival["id"],))
    result = run("export", path, tmp_path / "out", "--format", "recipe")
    assert result.stderr.count("note: ") == 1
    assert f"note: keep {rival['name']}, which scores more than the pick on unseen items" in result.stderr
    assert (tmp_path / "out" / "recipe.yaml").read_text() == (tmp_path / "gained" / "recipe.yaml").read_text()
    chosen = run("export", path, tmp_path / "chosen", "--format", "recipe", "--id", Run(path).pick.id)
    assert "note: " not in chosen.stderr, "a candidate that was asked for by its number"


def test_a_notebook_shows_verdict_front_and_table(finished_run: Path) -> None:
    opened = evomerge.Run(finished_run)
    html, verdict = opened._repr_html_(), opened.verdict
    assert html is not None and verdict is not None
    assert verdict["text"] in html and html.count("<svg") == 2 and "<table>" in html
    assert f"pick {opened.fact('pick')}" in repr(opened)


def test_figures_of_a_run_are_drawn_by_a_notebook(finished_run: Path) -> None:
    figures = evomerge.Run(finished_run).figures()
    assert {"front", "comparisons", "pools"} <= set(figures)
    assert all(figure._repr_svg_().startswith("<svg") for figure in figures.values())


def test_frames_hold_what_the_ledger_holds(finished_run: Path) -> None:
    opened = evomerge.Run(finished_run)
    candidates, front, items = (opened.frame(name) for name in ("candidates", "front", "items"))
    assert len(candidates) == len(opened.candidates()) and set(front.index) == {c.id for c in opened.front}
    assert candidates.loc[opened.fact("pick"), "is_pick"]
    assert set(opened.fact("coordinates")) <= set(candidates.columns)
    pick = opened.pick
    assert pick is not None
    own = items[(items.candidate == pick.id) & (items.pool == "report")]
    assert own.value.mean() == pytest.approx(pick.scores["report"]["share"].value)
    assert len(items) == sum(
        len(s.ids) for pool in ("search", "select", "report") for f in opened.items(pool).values() for s in f.values()
    )
    with pytest.raises(InvalidInput, match="Did you mean"):
        opened.frame("item")


def test_init_writes_a_file_that_check_accepts(pico: dict[str, Path], tmp_path: Path) -> None:
    """An lm-eval task would need the network, so a scorer takes its place before the check."""
    made = evomerge.init(
        tmp_path / "s.yaml", [pico["one"], pico["two"]], ["some_task/acc"], base=pico["base"], check=False
    )
    text = made.read_text()
    data = yaml.safe_load(text)
    assert data["parents"]["base"] == str(pico["base"]) and data["tasks"] == [{"task": "some_task", "metric": "acc"}]
    assert sum("#" in line for line in text.splitlines()) > 12
    from evomerge.run import check_search

    (tmp_path / "f.py").write_text("def f(model, tokenizer, items):\n    return [1.0 for _ in items]\n")
    (tmp_path / "i.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(1100)))
    made.write_text(text.replace("{task: some_task, metric: acc}", "{scorer: f.py:f, items: i.jsonl}"))
    assert check_search(made).space.domain.size >= 2 * 4


def test_init_names_local_parents_from_the_files_own_folder(
    pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pico["base"].parent)
    evomerge.init(tmp_path / "deep" / "s.yaml", ["./one", "org/two"], ["t"], check=False)
    models = yaml.safe_load((tmp_path / "deep" / "s.yaml").read_text())["parents"]["models"]
    assert (tmp_path / "deep" / models[0]).resolve() == pico["one"].resolve() and models[1] == "org/two"
    with pytest.raises(InvalidInput, match="exists already"):
        evomerge.init(tmp_path / "deep" / "s.yaml", ["./one"], ["t"])


def test_init_says_what_is_wrong_with_what_was_named(pico: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no such folder"):
        evomerge.init(tmp_path / "s.yaml", ["./nowhere"], ["arc_easy"])
    assert (tmp_path / "s.yaml").is_file()
    found = run("init", tmp_path / "t.yaml", "--models", "./nowhere", "./nowhere2", "--tasks", "arc_easy")
    assert found.exit_code == 2 and "is written" in found.stderr and "nowhere2" in found.stderr
