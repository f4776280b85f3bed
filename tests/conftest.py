"""Shared fixtures: pico parents on disk, made once by each test process. Nothing here or below touches the network.

`make test` runs two processes (pytest-xdist). Each has its own temporary folders, cache of statistics and session
fixtures; tests that start Ray or fork all run in one of them.
"""

import contextlib
import functools
import gc
import os
import sqlite3
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # no idle processes beside the workers
os.environ.setdefault("COLUMNS", "160")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.ray_cluster import SharedCluster

COMPILING = (
    "tests/engine/test_statistics_cache.py",
    "tests/engine/test_threads.py",
    "tests/methods/test_method_kernels.py",
    "tests/methods/test_method_pivots.py",
)
SHARING = (  # files and folders whose tests share what takes long to make
    "tests/derived/test_lora.py",
    "tests/derived/test_moe.py",
    "tests/docs/test_code_blocks.py",
    "tests/engine/test_many_parents.py",
    "tests/evaluation/sandbox/test_sandbox.py",
    "tests/results/",
    "tests/run/config/test_experiment_files.py",
    "tests/run/loop/test_guided_search.py",
    "tests/run/loop/test_levels_search.py",
    "tests/run/workers/test_fake_vllm.py",
    "tests/scripts/test_bench_candidates.py",
)

ROOT = Path(__file__).parents[1]
_STARTED = time.monotonic()
gc.disable()  # until all tests are collected: imports and parameters leave little garbage


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make quick` uses."""
    parser.addoption("--within", type=float, help="skip the tests that have not begun after so many seconds")


def starts_ray(nodeid: str) -> bool:
    """Tell by its name whether a test starts Ray: it is in a file `test_ray*.py`, or one of its parameters is "ray"."""
    path, _, name = nodeid.partition("::")
    return Path(path).name.startswith("test_ray") or name.endswith("[ray]")


@functools.cache
def forks(path: str) -> bool:
    """Tell whether a file's tests start processes of their own with `tests.forked`."""
    return "from tests.forked import" in (ROOT / path).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that start Ray under a name by which the scheduler cannot tell."""
    for item in items:
        if item.get_closest_marker("ray") and not item.get_closest_marker("chaos") and not starts_ray(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} is marked `ray`: put it in a file test_ray*.py, or call it [ray]")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests together that are slow side by side; large groups come first.

    Two Ray clusters at once are slow on two cores, and two processes would start two servers that fork others, compile
    the same kernels twice and make what a file's tests share twice.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if starts_ray(nodeid) or forks(path):
                return "processes"
            if path in COMPILING:
                return "kernels"
            return next((shared for shared in SHARING if path.startswith(shared)), nodeid)

    return Together(config, log)


def pytest_collection_finish() -> None:
    """Keep what the imports made out of garbage collections: in a large process each takes a third of a second."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what `--within` leaves no time for."""
    seconds = item.config.getoption("--within")
    if seconds is not None and time.monotonic() - _STARTED > seconds:
        pytest.skip(f"out of time: --within {seconds:g}")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the statistics that searches store away from the user's."""
    os.environ["EVOMERGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


class _Unsynchronized(sqlite3.Connection):
    """Leaves it to the system when to write to the disk: a test can kill processes, but cut no power."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("PRAGMA synchronous"):
            sql = "PRAGMA synchronous=OFF"
        return super().execute(sql, *parameters)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting() -> Iterator[None]:
    """Leave out what takes long beside a pico candidate: the disk, collections of what was imported, compilations."""
    with pytest.MonkeyPatch.context() as patch:
        connect = functools.partial(sqlite3.connect, factory=_Unsynchronized)
        patch.setattr(sqlite3, "connect", connect)
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr("evomerge.run.loop._loop._short_collections", contextlib.nullcontext)  # would end the freeze
        patch.setattr("evomerge.methods.kernels.cpu._dispatch._use", "never")  # but where a test says otherwise
        yield


@pytest.fixture(scope="session")
def pico(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and three fine-tunes of it: 3-layer Llamas in bf16."""
    from evomerge.testing.pico import write_pico

    root = tmp_path_factory.mktemp("pico")
    base = write_pico(root / "base", 0, dtype="bfloat16")
    parents = {"base": base}
    for seed, name in enumerate(("one", "two", "three"), start=1):
        parents[name] = write_pico(root / name, seed, near=base, dtype="bfloat16")
    return parents


@pytest.fixture(scope="session")
def finished_run(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; `search.yaml` lies beside it."""
    from tests.finished_run import make_run

    return make_run(pico, tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator["SharedCluster"]:
    """A local Ray with three CPUs, which tests join and leave running."""
    from tests.ray_cluster import SharedCluster

    found = SharedCluster()
    yield found
    found.remove()


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    """Take back what a test registers: methods of a test's own file, say, would travel to the next test's workers."""
    names = ("methods", "optimizers", "space", "evaluation", "run.trackers")

    def found() -> dict[str, tuple[dict[str, object], dict[str, object]]]:
        modules = {name: sys.modules.get(f"evomerge.{name}._registry") for name in names}
        return {name: (m.REGISTRY._registered, m.REGISTRY._loaded) for name, m in modules.items() if m is not None}

    before = {name: [dict(part) for part in parts] for name, parts in found().items()}
    yield
    for name, parts in found().items():
        for part, earlier in zip(parts, before.get(name, [{}, {}]), strict=True):
            part.clear()
            part.update(earlier)
