"""A real Ray cluster on one machine: nodes join and leave under a running search, and one does not see the parents."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from evomerge.run import Run, search
from tests.run.pico_search import write_search

pytestmark = [pytest.mark.chaos, pytest.mark.ray, pytest.mark.timeout(600)]

DRIVER = """
import sys
from evomerge.run import SilentObserver, search

class Loud(SilentObserver):
    def say(self, line):
        print(line, flush=True)

print(search(sys.argv[1], sys.argv[2], observer=Loud()).state)
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with one processor; candidates take a fifth of a second."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PICO_SLEEP", "0.2")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield found
    found.shutdown()


@pytest.fixture
def driver(cluster: Any) -> Iterator[Callable[[Path, Path], "subprocess.Popen[str]"]]:
    """Start `search` in another process that joins the cluster; it is ended with the test."""
    started = []

    def start(file: Path, out: Path) -> "subprocess.Popen[str]":
        log = out.with_suffix(".log").open("w")
        command = [sys.executable, "-c", DRIVER, str(file), str(out)]
        started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def finished(out: Path) -> list[Any]:
    """Return the candidates that are finished."""
    with suppress(Exception):
        return [each for each in Run(out).candidates() if each.kind == "candidate" and each.state != "running"]
    return []


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def write(tmp_path: Path, pico: dict[str, Path], cluster: Any, *, count: int, candidates: int) -> Path:
    workers = {"count": count, "address": cluster.address}
    return write_search(tmp_path, pico, workers=workers, budget={"candidates": candidates})


def test_nodes_join_and_leave(cluster: Any, driver: Any, pico: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = driver(write(tmp_path, pico, cluster, count=4, candidates=160), out)
    wait_for(lambda: len(finished(out)) >= 5)
    assert {each.worker for each in finished(out)} == {"ray-0"}, "it began with the one worker that had a place"
    node = cluster.add_node(num_cpus=2)
    wait_for(lambda: len({each.worker for each in finished(out)}) == 3)
    cluster.remove_node(node, allow_graceful=False)
    before = len(finished(out))
    wait_for(lambda: len(finished(out)) >= before + 8)
    cluster.add_node(num_cpus=3)
    wait_for(lambda: len({each.worker for each in finished(out)}) == 4)
    assert process.wait(300) == 0
    run = Run(out)
    assert run.state == "done"
    searched = [each for each in run.candidates() if each.kind == "candidate"]
    assert len(searched) == 160 and all(each.state == "scored" for each in searched), "no candidate was lost"


def test_a_search_outlives_the_loss_of_all_its_workers(
    cluster: Any, driver: Any, pico: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    file = write(tmp_path, pico, cluster, count=2, candidates=40)
    data = yaml.safe_load(file.read_text())
    data["workers"]["threads"] = 2  # more than the driver's own node has
    file.write_text(yaml.safe_dump(data))
    node = cluster.add_node(num_cpus=4)
    process = driver(file, out)
    wait_for(lambda: len(finished(out)) >= 10)
    cluster.remove_node(node, allow_graceful=False)
    time.sleep(5.0)
    assert process.poll() is None, "it waits"
    cluster.add_node(num_cpus=2)
    assert process.wait(300) == 0
    assert all(each.state == "scored" for each in Run(out).candidates())


def test_a_node_without_the_parents_gets_them_once(
    cluster: Any, driver: Any, pico: dict[str, Path], tmp_path: Path
) -> None:
    """The second node lives in a mount namespace of its own, where the driver's folder is empty."""
    hidden, cache = tmp_path / "driver", tmp_path / "cache of the node"
    hide = f"mount -t tmpfs none '{hidden}'"
    hidden.mkdir()
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "sh", "-c", hide], capture_output=True).returncode:
        pytest.skip("this machine lets no process hide a folder from another")
    parents = {name: Path(shutil.copytree(folder, hidden / "parents" / name)) for name, folder in pico.items()}
    file = write(hidden, pico, cluster, count=3, candidates=40)  # what scorers open themselves stays visible
    data = yaml.safe_load(file.read_text())
    data["parents"] = {"base": "./parents/base", "models": ["parents/one", str(parents["two"])]}
    file.write_text(yaml.safe_dump(data))
    ray = str(Path(sys.executable).with_name("ray"))
    start = f"{hide} && exec {ray} start --address={cluster.address} --num-cpus=2 --block --disable-usage-stats"
    node = subprocess.Popen(
        [unshare, "-rm", "sh", "-c", start],
        env={**os.environ, "EVOMERGE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        out = tmp_path / "run"
        process = driver(file, out)
        assert process.wait(300) == 0, out.with_suffix(".log").read_text()
    finally:
        for each in [*psutil.Process(node.pid).children(recursive=True), node]:
            with suppress(psutil.Error):
                each.kill()
    run = Run(out)
    assert {each.worker for each in finished(out)} == {"ray-0", "ray-1", "ray-2"}
    assert all(each.state == "scored" for each in run.candidates())
    copies = [path for path in (cache / "parents").iterdir() if path.is_dir()]
    assert len(copies) == 3, "base, one and two, each once, though two workers needed them"
    del data["workers"]["address"]
    file.write_text(yaml.safe_dump(data))
    plain = search(file, tmp_path / "inline", workers=0, candidates=5)
    ours, theirs = ({c.name: c.scores["search"] for c in each.candidates()[:8]} for each in (run, plain))
    assert ours == theirs
