"""A worker lives for a whole run: what it keeps does not grow with the candidates that it has scored."""

import gc
import random
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from evomerge.records import Point
from evomerge.run import Job, Setup, check_search, create_executor
from tests.choice_task import write_choice_task
from tests.forked import run_program

SUBSETS = 12  # more than layouts are kept for
WARM, TRACED = 2 * SUBSETS, 2 * SUBSETS  # candidates before the counting; tracing slows them down
WINDOWS, MORE = 4, SUBSETS  # what happens once, such as a table that doubles, is in one window; what leaks is in all
MOST_BYTES = 700  # a candidate; one number kept for each of its 24 items alone takes 950

FREED = """
import os
for name in [name for name in os.environ if name.endswith("CACHE_CAPACITY")]:
    del os.environ[name]
"""
PRODUCTS = """
import sys
import psutil
import torch
from evomerge.recipe import ModelRef
from evomerge.run.workers import CandidateScorer, WorkerSetup
parent = ModelRef(sys.argv[1])
setup = WorkerSetup(parents=(parent,), root=None, prepared=None, batch_size=1, threads=1, device="cpu")
CandidateScorer(setup, "test")
weight, process, sizes = torch.ones(64, 64, dtype=torch.bfloat16), psutil.Process(), []
for rows in range(1, 501):
    torch.nn.functional.linear(torch.ones(rows, 64, dtype=torch.bfloat16), weight)
    if rows in (100, 500):
        sizes.append(process.memory_info().rss)
print((sizes[1] - sizes[0]) / 1e6)
"""


def prepared(folder: Path, pico: dict[str, Path], method: str) -> Setup:
    """Return a search over pico parents that are scored on a local lm-eval task, in this process."""
    write_choice_task(folder, "picked", choices=3, count=80)
    genes = {"weight": {"per": ["model"], "range": [0.1, 1]}}
    if method != "task_arithmetic":
        genes["density"] = {"per": ["model"], "range": [0.2, 0.9]}
    search = {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": {"method": method, "genes": genes},
        "tasks": [{"task": "picked", "metric": "acc"}],
        "task_path": str(folder),
        "pools": {"search": 60, "select": 20, "report": 60},
        "subset": {"size": 24},
        "budget": {"candidates": 4},
        "workers": {"count": 0, "batch_size": 16},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return check_search(folder / "search.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["task_arithmetic", "dare_ties"])
def test_candidates_leave_nothing_behind(pico: dict[str, Path], tmp_path: Path, method: str) -> None:
    """Other genes each time, and subsets in turn, so that every item was seen when the counting begins."""
    setup, draw = prepared(tmp_path, pico, method), random.Random(0)
    (ids,) = (pools["search"] for pools in setup.prepared.pools.values())
    subsets = [tuple(sorted(draw.sample(ids, 24))) for _ in range(SUBSETS)]
    (name,) = setup.prepared.pools
    executor = create_executor(setup)

    def score(number: int) -> None:
        point = Point(reals=tuple(draw.random() for _ in range(setup.space.domain.reals)))
        items = {name: subsets[number % SUBSETS]}
        executor.submit(Job(candidate=number, pool="search", document=setup.space.decode(point), items=items))
        ((_, outcome),) = executor.wait(0.0)
        assert outcome.failure is None, outcome.failure

    def kept() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    for number in range(WARM):
        score(number)
    tracemalloc.start()
    try:
        for number in range(TRACED):  # what is kept of the untraced ones is thrown away when these replace it
            score(number)
        sizes = [kept()]
        for _ in range(WINDOWS):
            for number in range(MORE):
                score(number)
            sizes.append(kept())
        growth = [(after - before) / MORE for before, after in pairwise(sizes)]
        assert min(growth) < MOST_BYTES, growth
    finally:
        tracemalloc.stop()


def test_products_of_many_shapes_are_not_all_kept(pico: dict[str, Path]) -> None:
    """Without a limit torch keeps more than half a megabyte for each, where the processor multiplies bfloat16."""
    assert float(run_program(FREED + PRODUCTS, str(pico["one"]))) < 60
