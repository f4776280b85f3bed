"""A package that is installed beside evomerge brings a method and an optimizer, and a search uses both."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.run import Run
from tests.finished_run import SCORER
from tests.forked import run_command
from tests.ray_cluster import SharedCluster

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / "outside_package"
CANDIDATES = 8


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package into a folder as pip does, without a network: its files and its entry points."""
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


def evomerge(installed: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command in a process that has the package; return its exit code, output and errors."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    return run_command(*map(str, arguments), environment={"PYTHONPATH": path})


def write_search(folder: Path, pico: dict[str, Path], **workers: Any) -> Path:
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
        "workers": workers,
        "proof": {"finalists": 2},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return folder / "search.yaml"


@pytest.mark.parametrize("where", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_search_uses_its_method_and_its_optimizer(
    where: str, installed: Path, pico: dict[str, Path], tmp_path: Path, ray_cluster: SharedCluster
) -> None:
    workers: dict[str, Any] = {"count": 0}
    if where == "ray":
        workers = {"count": 1, "address": ray_cluster.join()}
        shutil.copytree(installed, ray_cluster.site, dirs_exist_ok=True)
    code, _, errors = evomerge(installed, "search", write_search(tmp_path, pico, **workers), "--out", tmp_path / "run")
    assert code == 0, errors
    searched = [candidate for candidate in Run(tmp_path / "run").candidates() if candidate.kind == "candidate"]
    assert len(searched) == CANDIDATES
    assert {candidate.recipe["merge_method"] for candidate in searched} == {"midpoint"}
    assert all(candidate.state == "scored" for candidate in searched)


def test_its_method_is_described(installed: Path) -> None:
    described = json.loads(evomerge(installed, "methods", "midpoint", "--json")[1])
    assert described["parameters"][0]["name"] == "share"


def test_without_the_package_the_search_file_is_refused(pico: dict[str, Path], tmp_path: Path) -> None:
    code, output, _ = evomerge(tmp_path, "check", write_search(tmp_path, pico, count=0))
    assert code == 2
    assert "midpoint" in output and "countdown" in output
