"""A package that is installed beside evomerge brings a method and an optimizer, and a search uses both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge.run import Run
from tests.finished_run import SCORER

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / "outside_package"
CANDIDATES = 8


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package into a folder as pip does, without a network: its files and its entry points."""
    import shutil
    import tomllib

    target = tmp_path_factory.mktemp("site")
    shutil.copytree(SOURCE / "outside_package", target / "outside_package")
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    facts = target / f"outside_package-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items()) for group, named in groups
    )
    (facts / "entry_points.txt").write_text(points)
    return target


def evomerge(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a fresh process that has the package."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    command = [sys.executable, "-m", "evomerge", *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def write_search(folder: Path, pico: dict[str, Path], workers: int) -> Path:
    (folder / "share.py").write_text(SCORER)
    (folder / "items.jsonl").write_text("\n".join(json.dumps({"threshold": i / 10 - 3}) for i in range(60)))
    search = {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": "midpoint", "genes": {"share": {"per": ["layer"], "range": [0, 1]}}},
        "optimizer": "countdown",
        "tasks": [{"scorer": "share.py:share", "items": "items.jsonl"}],
        "pools": {"search": 20, "select": 20, "report": 20},
        "subset": {"size": 10},
        "budget": {"candidates": CANDIDATES},
        "workers": {"count": workers},
        "proof": {"finalists": 2},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return folder / "search.yaml"


@pytest.mark.parametrize("workers", [pytest.param(0, id="inline"), pytest.param(1, marks=pytest.mark.ray, id="ray")])
def test_a_search_uses_its_method_and_its_optimizer(
    installed: Path, pico: dict[str, Path], tmp_path: Path, workers: int
) -> None:
    done = evomerge(installed, "search", write_search(tmp_path, pico, workers), "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    searched = [candidate for candidate in Run(tmp_path / "run").candidates() if candidate.kind == "candidate"]
    assert len(searched) == CANDIDATES
    assert {candidate.recipe["merge_method"] for candidate in searched} == {"midpoint"}
    assert all(candidate.state == "scored" for candidate in searched)


def test_its_method_is_described(installed: Path) -> None:
    described = json.loads(evomerge(installed, "methods", "midpoint", "--json").stdout)
    assert described["parameters"][0]["name"] == "share"


def test_without_the_package_the_search_file_is_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    done = evomerge(tmp_path, "check", write_search(tmp_path, pico, 0))
    assert done.returncode == 2
    assert "midpoint" in done.stdout
    assert "countdown" in done.stdout
