"""The quick index of lm-eval's names is lm-eval's own."""

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.evaluation.prepare import TaskIndex, built_in_entries, scan_folder

LM_EVAL_TASKS = Path(find_spec("lm_eval").origin).resolve().parent / "tasks"

# Names in quotes, in included files, lists of tags, tasks written as classes, groups of groups, several includes.
FOLDERS = ["aclue", "agieval", "arc", "belebele", "glue", "leaderboard", "metabench", "mmlu", "noreval", "okapi"]
FOLDERS += ["scrolls", "squad_completion", "super_glue", "translation", "unscramble"]
KINDS = {"TASK": "task", "PY_TASK": "task", "GROUP": "group", "TAG": "tag"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_lm_eval(name):
    from lm_eval.tasks import _index

    folder = LM_EVAL_TASKS / name
    expected = _index.TaskIndex.build([folder])
    found = scan_folder(folder)
    assert found
    assert found.keys() == expected.keys()
    for key, entry in found.items():
        assert (entry.kind, entry.path) == (KINDS[expected[key].kind.name], expected[key].yaml_path)
        if entry.kind == "tag":
            assert entry.tagged == expected[key].tags


def test_all_names_are_there_in_little_time():
    for _ in range(3):  # on a busy machine even a processor's seconds are long
        started = time.process_time()
        names = scan_folder(LM_EVAL_TASKS)
        seconds = time.process_time() - started
        if seconds < 5:
            break
    assert seconds < 5  # lm-eval itself: 5 to 10 s
    assert names == built_in_entries()
    assert {"mmlu", "arc_easy", "hellaswag", "leaderboard", "ai2_arc"} <= names.keys()
    assert [names[one].kind for one in ("mmlu", "arc_easy", "ai2_arc")] == ["group", "task", "tag"]


def test_an_unknown_name_costs_no_import(tmp_path):
    code = (
        "import sys\n"
        "from evomerge.errors import InvalidFile\n"
        "from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks\n"
        "sizes = PoolSizes(search=1, select=1, report=1)\n"
        "try: prepare_tasks([TaskRequest(task='arc_eesy')], task_path=None, pools=sizes, seed=0)\n"
        "except InvalidFile as error: print(error)\n"
        "print([name for name in ('torch', 'lm_eval', 'datasets') if name in sys.modules])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert 'there is no task of this name in lm-eval. Did you mean "arc_easy"?' in out
    assert out.splitlines()[-1] == "[]"


def test_a_folder_of_ones_own(tmp_path):
    (tmp_path / "base").write_text(yaml.safe_dump({"tag": ["letters", "all"], "output_type": "multiple_choice"}))
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"include": "base", "task": "one"}))
    (tmp_path / "two.yaml").write_text("{task: two, tag: all}")
    (tmp_path / "group.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["one", "two"]}))
    (tmp_path / "arc.yaml").write_text(yaml.safe_dump({"task": "arc_easy"}))  # hides lm-eval's
    (tmp_path / "zwei.yaml").write_text(yaml.safe_dump({"task": "two"}))
    (tmp_path / "broken.yaml").write_text("task: [")
    index = TaskIndex(tmp_path)
    assert {name: index.find(name)[0].kind for name in ("one", "two", "both", "all")} == {
        "one": "task",
        "two": "task",
        "both": "group",
        "all": "tag",
    }
    assert index.find("all")[0].tagged == {"one", "two"}
    assert index.find("two")[0].path.name == "two.yaml"
    assert index.find("arc_easy")[1] and not index.find("arc_challenge")[1] and index.find("no such") is None
    assert list(index.unreadable()) == ["broken.yaml"] and "ParserError" in index.unreadable()["broken.yaml"]


def test_a_class_is_refused(tmp_path):
    sizes = PoolSizes(search=1, select=1, report=1)
    with pytest.raises(InvalidFile, match="written as a Python class"):
        prepare_tasks([TaskRequest(task="scrolls_quality")], task_path=None, pools=sizes, seed=0)
