"""The race of finalists: items are saved, the best is kept, and an interrupted race ends like one that was not."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.records import ItemScores, Objective
from evomerge.run import Executor, Job, Outcome, Run, Setup, parts_of, search, survivors
from evomerge.testing.landscape_search import LandscapeExecutor, landscape_file
from evomerge.testing.landscapes import Landscape

OBJECTIVE = Objective(name="task", task="task", metric="acc")
ITEMS = tuple(range(256))
POOLS = {"search": 60, "select": 256, "report": 64}


class Interrupted(Exception):
    """Stands for a killed driver."""


class Noted(LandscapeExecutor):
    """Scores a landscape, notes the items of the select pool, and may end the process there."""

    def __init__(self, setup: Setup, noted: list[Job], last_job: int | None):
        super().__init__(Landscape(6, seed=1, search_items=316, held_out_items=64), str(setup.refs[0]))
        self._noted, self._last_job = noted, last_job

    def submit(self, job: Job) -> None:
        if job.pool == "select":
            self._noted.append(job)
        super().submit(job)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        if self._last_job is not None and len(self._noted) > self._last_job:
            raise Interrupted
        return super().wait(timeout)


def run_with(
    folder: Path, out: str, noted: list[Job] | None = None, *, last_job: int | None = None, **proof: Any
) -> Run:
    """Run or resume a search on a small landscape."""
    data, space = landscape_file(6, folder, seed=3, pools=POOLS, budget={"candidates": 40}, proof=proof)

    def executor(setup: Setup) -> Executor:
        return Noted(setup, noted if noted is not None else [], last_job)

    return search(data, folder / out, space=space, executor=executor)


def scores_of(run: Run) -> Mapping[int, Any]:
    return {candidate.id: candidate.scores for candidate in run.candidates()}


def test_a_race_saves_items_and_has_the_same_pick(tmp_path: Path) -> None:
    raced, every = run_with(tmp_path, "raced"), run_with(tmp_path, "every", race="off")
    assert raced.pick is not None
    assert every.pick is not None
    assert raced.pick.id == every.pick.id
    items = {run: run.cost()["items"]["select"] for run in (raced, every)}
    assert items[raced] < 0.8 * items[every]
    for identity, scores in scores_of(every).items():
        own = scores_of(raced)[identity]
        if "select" in scores:
            assert own["select"]["landscape"].n <= scores["select"]["landscape"].n
            assert set(raced.items("select")[identity]["landscape"].ids) <= set(
                every.items("select")[identity]["landscape"].ids
            )
    assert raced.pick.scores["select"] == every.pick.scores["select"]
    assert raced.verdict is not None
    assert every.verdict is not None
    assert len(raced.verdict["comparisons"]) == len(every.verdict["comparisons"]), "all references are compared"


def test_no_item_is_scored_twice(tmp_path: Path) -> None:
    noted: list[Job] = []
    run_with(tmp_path, "run", noted)
    scored = [(job.candidate, item) for job in noted for item in job.items["landscape"]]
    assert len(scored) == len(set(scored))
    assert len({len(job.items["landscape"]) for job in noted}) > 1


@pytest.mark.parametrize("last_job", [3, 16, 22])
def test_an_interrupted_race_ends_like_one_that_was_not(tmp_path: Path, last_job: int) -> None:
    whole = scores_of(run_with(tmp_path, "whole"))
    with pytest.raises(Interrupted):
        run_with(tmp_path, "parts", last_job=last_job)
    assert scores_of(run_with(tmp_path, "parts")) == whole


def test_a_floor_means_no_race(tmp_path: Path) -> None:
    data, space = landscape_file(6, tmp_path, seed=3, pools=POOLS, budget={"candidates": 10})
    data["tasks"][0]["floor"] = 0.1
    run = search(data, tmp_path / "run", space=space, executor=lambda setup: Noted(setup, [], None))
    sizes = {scores["select"]["landscape"].n for scores in scores_of(run).values() if "select" in scores}
    assert sizes == {256}


def test_parts_grow_within_each_other_and_small_pools_have_none() -> None:
    parts = parts_of({"task": ITEMS}, 5)
    assert [len(part["task"]) for part in parts] == [32, 64, 128, 256]
    for small, large in pairwise(parts):
        assert set(small["task"]) < set(large["task"])
    assert parts_of({"task": ITEMS}, 6)[0] != parts[0]
    assert parts_of({"task": tuple(range(24))}, 5) == [{"task": tuple(range(24))}]
    assert [len(part["task"]) for part in parts_of({"task": tuple(range(70))}, 5)] == [18, 35, 70]


def test_the_best_of_many_is_hardly_ever_dropped_and_bad_ones_are() -> None:
    runs, dropped, kept = 300, 0, 0
    random = np.random.default_rng(0)
    accuracies = np.array([0.62, *[0.60] * 12, 0.2, 0.1])
    for seed in range(runs):
        right = random.random((len(accuracies), len(ITEMS))) < accuracies[:, None]
        items = {
            i: {"task": ItemScores(ids=ITEMS, values=tuple(row.astype(float).tolist()))} for i, row in enumerate(right)
        }
        running = list(items)
        parts = parts_of({"task": ITEMS}, seed)
        for part in parts[:-1]:
            error = 0.05 / (3 * (len(items) - 1))
            running = survivors([OBJECTIVE], {i: items[i] for i in running}, part, error=error, clusters={})
        dropped += 0 not in running
        kept += 13 in running or 14 in running
    assert dropped / runs <= 0.05
    assert kept == 0


def test_whoever_was_not_scored_on_the_whole_part_is_out() -> None:
    full = {"task": ItemScores(ids=ITEMS, values=(1.0,) * 256)}
    part = {"task": ItemScores(ids=ITEMS[:10], values=(1.0,) * 10)}
    assert survivors([OBJECTIVE], {1: full, 2: part}, {"task": ITEMS[:20]}, error=0.01, clusters={}) == [1]
    assert survivors([OBJECTIVE], {}, {"task": ITEMS[:20]}, error=0.01, clusters={}) == []
