"""The benchmark of candidates runs, at sizes that mean nothing; its device part needs little more than torch."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from evomerge.run import Setup, check_search
from evomerge.testing.pico import write_pico

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
QUICKSTART = SCRIPTS.parent / "experiments" / "quickstart"
HEAVY = ("transformers", "ray", "lm_eval", "pydantic", "optuna", "click")


@pytest.fixture(scope="module", autouse=True)
def scripts_on_path() -> Iterator[None]:
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def quickstart() -> Setup:
    """The quickstart's search with few items."""
    search = yaml.safe_load((QUICKSTART / "search.yaml").read_text())
    with contextlib.chdir(QUICKSTART):
        return check_search({**search, "pools": {"search": 16, "select": 2, "report": 2}}, workers=0)


def test_device_part_needs_no_other_packages(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    small = ["--device", "cpu", "--layers", "1", "--hidden", "32", "--vocabulary", "64", "--repeats", "1"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({HEAVY})); sys.argv[1:] = {[*small, '--json', str(out)]}\n"
        f"sys.path.insert(0, {str(SCRIPTS)!r}); import bench_candidates; bench_candidates.main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {row["method"]: row for row in json.loads(out.read_text())["device"]}
    assert list(rows) == ["task_arithmetic", "slerp", "ties", "dare_ties"]
    assert all(row["ms"] > 0 and row["differs from CPU"] == 0 for row in rows.values())
    assert "| task_arithmetic |" in run.stdout


def test_every_method_is_materialized(tmp_path: Path) -> None:
    resident = import_module("bench_resident")
    base = write_pico(tmp_path / "base", 0, dtype="bfloat16")
    for seed, name in enumerate(("one", "two", "three"), 1):
        write_pico(tmp_path / name, seed, near=base, dtype="bfloat16")
    every = (*resident.METHODS, "della")
    rows = resident.materialize(tmp_path, every, repeats=2)
    assert [row["method"] for row in rows] == list(every)
    assert all(0 < row["copy s"] < row["s"] for row in rows)


def test_scoring_parts(quickstart: Setup) -> None:
    resident = import_module("bench_resident")
    found = resident.share("quickstart", quickstart, 4, 1, 1)
    assert 0 < found["materialization s"] < found["candidate s"]
    assert [(row["after"], row["and after"]) for row in resident.growth(2, quickstart)] == [(20, 22), (22, 24)]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_gradient_steps_are_compared(quickstart: Setup) -> None:
    gradients = import_module("bench_gradients")
    rows = gradients.measured(quickstart, 1, models=3)
    assert [row["candidate"] for row in rows] == ["plain", "gradient", "gradient, checkpoints"]
    assert rows[0]["time"] == rows[0]["memory"] == 1 and all(row["CPU s"] > 0 for row in rows)
