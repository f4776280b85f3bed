"""The README: two screens, a picture of the quickstart, a new user's path, a table whose every "yes" can be tried."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.time_first_model import EXPORTED, MAX_COMMANDS, run_path, start_commands
from tests.docs.code_blocks import ROOT, check_inline_command, inline_commands, parse_command

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


def test_what_is_not_measured_says_so() -> None:
    assert re.search(r"this search \|[^|]*an estimate, not measured on a GPU", README)
    benchmarks = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "GPU: not measured" in benchmarks, "where that has changed, the README's estimate can be a figure"
    assert "| 78 s on one CPU core, [measured]" in README and "Without a limit: 78 s, 0.48 GB" in benchmarks
    assert "95 GFLOP/s [measured]" in README and "90 to 100 of 104 GFLOP/s" in benchmarks
