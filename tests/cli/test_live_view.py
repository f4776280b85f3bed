"""What a person sees while a search goes on: a block on a terminal, lines in a log, events for programs."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evomerge.cli import cli
from evomerge.run import LEDGER, Run, progress_of
from tests.large_run import make_large_run

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"


def run(*arguments: object, **environment: str) -> Result:
    """Call a verb in this process, output and messages apart."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False, env=environment)


def test_watch_ends_with_the_verdict_of_a_finished_run(finished_run: Path) -> None:
    found = run("watch", finished_run)
    verdict = Run(finished_run).verdict
    assert found.exit_code == 0 and verdict is not None
    assert verdict["text"] in found.stdout
    assert "candidate 24 of 24" in found.stderr


def test_watch_says_that_nobody_works_on_a_run(tmp_path: Path) -> None:
    folder = shutil.copytree(OLD_RUNS / "interrupted", tmp_path / "run")
    found = run("watch", folder)
    assert found.exit_code == 0
    assert "No verdict yet" in found.stdout and "resumes it" in found.stdout


def test_on_a_terminal_there_is_one_block_with_all_facts(finished_run: Path) -> None:
    found = run("watch", finished_run, "--once", FORCE_COLOR="1", TERM="xterm", COLUMNS="100")
    for word in ("candidate 24 of 24", "best", "95%", "front", "failed", "workers", "disk", "free"):
        assert word in found.stderr, word


def test_progress_is_json_for_programs(finished_run: Path) -> None:
    (line,) = run("watch", finished_run, "--json").stdout.splitlines()
    event = json.loads(line)
    assert (event["version"], event["event"], event["phase"], event["done"]) == (1, "progress", "done", 24)
    low, high = event["best_interval"]
    assert 0.0 <= low <= event["best"][1] <= high <= 1.0


def test_a_search_prints_events_for_programs(finished_run: Path, tmp_path: Path) -> None:
    for name in ("search.yaml", "share.py", "items.jsonl"):
        shutil.copy(finished_run.parent / name, tmp_path)
    found = run("search", tmp_path / "search.yaml", "--out", tmp_path / "run", "--candidates", 6, "--json")
    assert found.exit_code == 0, found.output
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert {event["event"] for event in events} >= {"progress", "ended"}
    phases = [event["phase"] for event in events if event["event"] == "progress"]
    assert phases[0] == "preparing" and "searching" in phases and "reporting" in phases
    assert events[-1]["event"] == "ended" and events[-1]["state"] == "done"
    assert events[-1]["verdict"] == Run(tmp_path / "run").verdict
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("candidates", [60])
def test_progress_from_the_ledger_is_what_the_driver_would_say(candidates: int, tmp_path: Path) -> None:
    run_folder = make_large_run(tmp_path / "run", candidates)
    progress = progress_of(Run(run_folder))
    assert progress.phase == "done" and progress.done == candidates
    assert progress.references == (6, 6) and progress.failures["degenerate"] >= 1
    assert progress.best is not None and progress.best_interval is not None
    assert progress.best_interval[0] < progress.best[1] < progress.best_interval[1]
    assert (run_folder / LEDGER).is_file()
