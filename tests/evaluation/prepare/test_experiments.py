"""The ready search files name tasks, groups and metrics that lm-eval has. No data set is read."""

from pathlib import Path

import pytest
import yaml

from evomerge.evaluation.prepare import TaskIndex, is_group, read_group, read_task
from evomerge.recipe import check_document
from evomerge.run import SearchEntry

FOLDER = Path(__file__).resolve().parents[3] / "experiments"


@pytest.mark.parametrize(
    "name",
    [
        "open_llm_leaderboard/search",
        "nous/search",
        "mergebench/search",
        "biomistral/search",
        "sakana/parameter_space",
        "sakana/data_flow",
        "sakana/hybrid",
    ],
)
def test_a_ready_search_file(name):
    path = FOLDER / f"{name}.yaml"
    entry, problems = check_document(SearchEntry, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    assert entry is not None and not problems
    index = TaskIndex(path.parent / entry.task_path if entry.task_path else None)
    for task in entry.tasks:
        metric = str(task.metric).partition(",")[0]
        if is_group(str(task.task), index):
            group = read_group(str(task.task), index)
            assert metric in {entry.metric for entry in group.metrics}
        else:
            listed = read_task(str(task.task), index).config["metric_list"]
            assert metric in {entry["metric"] for entry in listed}
    assert (path.parent / "README.md").is_file()
