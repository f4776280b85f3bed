"""The README: two screens, a picture of the quickstart, a new user's path, a table whose every "yes" can be tried."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli import cli
from evomerge.methods import built_in_names
from evomerge.results import REPORT
from evomerge.run import Run, search
from evomerge.testing.faults import DriverDied, faulty
from scripts.time_first_model import EXPORTED, MAX_COMMANDS, run_path, start_commands
from tests.docs.code_blocks import ROOT, check_inline_command, inline_commands, parse_command
from tests.run.pico_search import differences

Evidence = Callable[[str, Path], bool]  # what a command said, and the folder it was called in -> does that show it?

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES, MAX_PICTURE_BYTES = 130, 30_000
PEERS = ("mergekit", "Mergenetic", "Lerp", "FusionBench")
NO_COMMAND = ("has what evomerge lacks", "license", "several machines")  # the last is a key of the search file


def table_rows() -> dict[str, list[str]]:
    """Return the rows of the comparison: what -> the cells of evomerge and of the others."""
    section = README.partition("\n## Beside other programs\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows[2:]}


def test_it_is_two_screens() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_a_new_users_path_is_short_and_ends_with_a_model() -> None:
    commands = start_commands(README)
    assert len(commands) < MAX_COMMANDS
    assert commands[0].startswith("git clone https://")
    assert "\n".join(commands) in (ROOT / "docs" / "start.md").read_text(encoding="utf-8"), "one path, given twice"
    assert f"export runs/quickstart {EXPORTED}/" in commands[-1]


def test_the_timed_path_runs_in_one_shell_and_names_what_fails(tmp_path: Path) -> None:
    assert len(run_path(["mkdir sub", "cd sub", "touch here"], tmp_path / "path")) == 3
    assert (tmp_path / "path" / "sub" / "here").exists()
    with pytest.raises(SystemExit, match="command 2 failed: false"):
        run_path(["true", "false", "true"], tmp_path / "failing")


def test_the_picture_is_small_and_says_what_it_shows() -> None:
    [picture] = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    text = (ROOT / picture).read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_PICTURE_BYTES
    tags = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()]
    assert "script" not in tags and "image" not in tags
    assert "gain over every reference" in text and "What each parent contributes" in text


def test_every_yes_has_a_command_that_shows_it() -> None:
    rows = table_rows()
    assert len(rows) > 10 and all(len(cells) == 1 + len(PEERS) for cells in rows.values())
    for what, (ours, *_) in rows.items():
        commands = inline_commands(ours)
        assert commands or what in NO_COMMAND, what
        for words in commands:
            check_inline_command(words)
            parse_command(words)


def one_model(name: str) -> Evidence:
    """Return evidence that a whole model lies in a folder."""
    return lambda said, here: (here / name / "model.safetensors").is_file() and (here / name / "README.md").is_file()


def judged_by_intervals(said: str, here: Path) -> bool:
    """Tell whether every reference has an interval."""
    found = json.loads(said)
    references = {entry["id"] for entry in found["candidates"] if entry["kind"] in ("parent", "simple")}
    compared = {entry["id"]: entry["interval"] for entry in found["verdict"]["comparisons"]}
    return references <= {*compared, found["pick"]} and all(low <= high for low, high in compared.values())


EVIDENCE: dict[str, Evidence] = {
    "builds a mergekit file": one_model("merged"),
    "methods": lambda said, here: all(re.search(rf"^ *{name}\b", said, re.MULTILINE) for name in built_in_names()),
    "searches": lambda said, here: Run(here / "runs/my-search").verdict["text"] in said,
    "genes by layer": lambda said, here: "per: [model, layer]" in said,
    "layer stacks as genes": lambda said, here: "kind: data_flow" in said,
    "several objectives, a front": lambda said, here: all(word in said for word in ("share", "other", "front")),
    "candidates built in memory": lambda said, here: (
        "of 24 finished" in said and not [*here.glob("runs/**/*.safetensors")]
    ),
    "resumes after a kill": lambda said, here: differences(here / "runs/whole", here / "runs/my-search") == [],
    "unseen items judge": lambda said, here: "unseen" in (here / "runs/my-search" / REPORT).read_text(),
    "interval against every reference": judged_by_intervals,
}


def test_every_command_of_the_table_shows_what_it_stands_for(
    finished_run: Path, pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, in one folder and in their order, as a reader would try them: the driver has died once before."""
    rows = {what: cells[0] for what, cells in table_rows().items() if what not in NO_COMMAND}
    assert [*rows] == [*EVIDENCE]
    monkeypatch.chdir(tmp_path)
    for name in ("share.py", "items.jsonl"):
        shutil.copy(finished_run.parent / name, name)
    search_file = yaml.safe_load((finished_run.parent / "search.yaml").read_text())
    [task] = search_file["tasks"]
    search_file["tasks"] = [task, {**task, "name": "other", "weight": 2}]
    Path("search.yaml").write_text(yaml.safe_dump(search_file))
    models = [{"model": str(pico[name]), "parameters": {"weight": 0.5}} for name in ("one", "two")]
    merge = {"merge_method": "ties", "base_model": str(pico["base"]), "models": models, "parameters": {"density": 0.5}}
    Path("recipe.yaml").write_text(yaml.safe_dump(merge))
    search("search.yaml", "runs/whole")
    with pytest.raises(DriverDied):
        search("search.yaml", "runs/my-search", executor=faulty({12: "driver dies late"}))
    for what, cell in rows.items():
        [words] = inline_commands(cell)
        result = CliRunner().invoke(cli, words[1:])
        assert result.exit_code == 0, (what, result.output)
        assert EVIDENCE[what](result.stdout, tmp_path), (what, result.stdout)


def test_what_is_not_measured_says_so() -> None:
    assert re.search(r"this search \|[^|]*an estimate, not measured on a GPU", README)
    benchmarks = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "GPU: not measured" in benchmarks, "where that has changed, the README's estimate can be a figure"
    assert "| 78 s on one CPU core, [measured]" in README and "Without a limit: 78 s, 0.48 GB" in benchmarks
    assert "95 GFLOP/s [measured]" in README and "90 to 100 of 104 GFLOP/s" in benchmarks
