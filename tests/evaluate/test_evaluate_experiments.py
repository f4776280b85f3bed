"""The ready search files name tasks, groups and metrics that lm-eval has. No data set is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.evaluate import _lm_eval
from evomerge.evaluate._group import is_group, leaf_of, read_group
from evomerge.recipe import check
from evomerge.run._search_file import SearchEntry

BUILT_IN = ["agieval", "arc", "bigbench/multiple_choice", "gsm8k", "hellaswag", "mmlu/default", "openbookqa", "piqa"]
BUILT_IN += ["super_glue/boolq", "truthfulqa", "winogrande"]
FOLDER = Path(__file__).resolve().parents[2] / "experiments"


class _Index:
    """lm-eval's index of a few folders; that of all of them takes many seconds."""

    def __init__(self, own: list[Path]):
        from lm_eval.tasks._index import TaskIndex

        self._local = TaskIndex.build(own)
        self._built_in = TaskIndex.build([_lm_eval.PACKAGE / "tasks" / folder for folder in BUILT_IN])

    def find(self, name: str) -> Any:
        if name in self._local:
            return self._local[name], True
        return (self._built_in[name], False) if name in self._built_in else None

    def names(self) -> list[str]:
        return [*self._local, *self._built_in]


@pytest.mark.parametrize("name", ["open_llm_leaderboard", "nous"])
def test_a_ready_search_file(name):
    path = FOLDER / name / "search.yaml"
    entry, problems = check(SearchEntry, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    assert entry is not None and not problems
    index = _Index([path.parent / entry.task_path] if entry.task_path else [])
    for task in entry.tasks:
        metric = str(task.metric).partition(",")[0]
        if is_group(str(task.task), index):
            group = read_group(str(task.task), index)
            assert metric in {one.metric for one in group.aggregates}
        else:
            listed = leaf_of(str(task.task), index).config["metric_list"]
            assert metric in {one["metric"] for one in listed}
    assert (path.parent / "README.md").is_file()
