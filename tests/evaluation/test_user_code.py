"""The user's own Python travels as text with the files beside it: workers need no file, an edit changes nothing."""

import json
import pickle
import sys
from pathlib import Path

import pytest
from local_tasks import CHOICE, choice_rows

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from tests.forked import run_program

SIZES = PoolSizes(search=3, select=3, report=3)
SCORER = """
from dataclasses import dataclass

@dataclass
class Answer:
    value: float

def half(model, tokenizer, items):
    return [Answer(0.5).value for item in items]
"""


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Nine items."""
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"number": i}) + "\n" for i in range(9)))
    return path


def prepared_scorer(folder: Path, items: Path, function: str = "half", file: str = "scorer.py"):
    request = TaskRequest(scorer=f"{folder / file}:{function}", items=items, name=f"{folder.name}_{function}")
    return prepare_tasks([request], pools=SIZES, seed=0)


def values(prepared, model, tokenizer) -> set[float]:
    """Return the different values of the search pool, scored by a copy that travelled."""
    sent = pickle.loads(pickle.dumps(prepared))
    scorer = sent.scorer(model, tokenizer, batch_size=4)
    found = scorer.score({name: pools["search"] for name, pools in sent.pools.items()})
    return {value for scores in found.values() for value in scores.values}


def test_a_scorer_needs_its_file_on_the_driver_alone(tmp_path, items, model, tokenizer):
    (tmp_path / "scorer.py").write_text(SCORER)
    prepared = prepared_scorer(tmp_path, items)
    (tmp_path / "scorer.py").write_text(SCORER.replace("0.5", "0.9"))
    assert values(prepared, model, tokenizer) == {0.5}
    (tmp_path / "scorer.py").unlink()
    assert values(prepared, model, tokenizer) == {0.5}


def test_a_tasks_functions_need_their_files_on_the_driver_alone(write_task, tmp_path):
    folder = write_task("mc", {"test": choice_rows(12)}, **CHOICE)
    (folder / "code.py").write_text("from helper import ONE\ndef score(doc, results):\n    return {'acc': ONE}\n")
    (folder / "helper.py").write_text("ONE = 1.0\n")
    text = (folder / "mc.yaml").read_text() + "process_results: !function code.score\n"
    (folder / "mc.yaml").write_text(text + "metadata: {version: 2}\n")
    request = TaskRequest(task="mc", metric="acc")
    prepared = prepare_tasks([request], task_path=folder, pools=SIZES, seed=0)
    (folder / "helper.py").write_text("ONE = 0.25\n")
    changed = prepare_tasks([request], task_path=folder, pools=SIZES, seed=0)
    assert changed.facts["mc"]["task_digest"] != prepared.facts["mc"]["task_digest"]
    for file in ("code.py", "helper.py"):
        (folder / file).unlink()
    program = (
        "import pickle, sys\n"
        "task = pickle.load(open(sys.argv[1], 'rb')).tasks['mc'].items.sources['mc']\n"
        "print(task.config['process_results'].load()({}, [])['acc'])\n"
    )
    (tmp_path / "prepared.pickle").write_bytes(pickle.dumps(prepared))
    assert run_program(program, str(tmp_path / "prepared.pickle")) == "1.0\n"


HELPED = """
import helper
from helper import value as at_top
from tools.words import count

def half(model, tokenizer, items):
    import late, tools.words
    assert tools.words.count is count
    return [at_top() + late.more() + count() for item in items]
"""


def write_helped(folder: Path, number: float) -> None:
    """Write a scorer that imports a file, a package with a file of its own, and one file only while it scores."""
    (folder / "tools").mkdir(parents=True)
    (folder / "scorer.py").write_text(HELPED)
    (folder / "helper.py").write_text("import base\ndef value():\n    return base.NUMBER\n")
    (folder / "base.py").write_text(f"NUMBER = {number}\n")
    (folder / "late.py").write_text("def more():\n    return 10.0\n")
    (folder / "tools" / "__init__.py").write_text("")
    (folder / "tools" / "words.py").write_text("from . import letters\ndef count():\n    return letters.COUNT\n")
    (folder / "tools" / "letters.py").write_text("COUNT = 100.0\n")


def test_files_beside_a_scorer_can_be_imported_and_two_folders_do_not_mix(tmp_path, items, model, tokenizer):
    prepared = {}
    for name, number in (("one", 1.0), ("two", 2.0)):
        write_helped(tmp_path / name, number)
        prepared[name] = prepared_scorer(tmp_path / name, items)
    modules, path = set(sys.modules), list(sys.path)
    for name, number in (("one", 1.0), ("two", 2.0), ("one", 1.0)):
        assert values(prepared[name], model, tokenizer) == {110.0 + number}
    assert sys.path == path and not {"helper", "base", "late", "tools"} & set(sys.modules)
    new = [sys.modules[name] for name in set(sys.modules) - modules if not name.startswith("evomerge_code_")]
    assert not [module for module in new if str(tmp_path) in str(getattr(module, "__file__", None))]
    with pytest.raises(ModuleNotFoundError):
        __import__("helper")


def test_a_worker_process_needs_none_of_the_files(tmp_path, items):
    write_helped(tmp_path / "one", 1.0)
    prepared = prepared_scorer(tmp_path / "one", items)
    (tmp_path / "prepared.pickle").write_bytes(pickle.dumps(prepared))
    for file in (tmp_path / "one").rglob("*.py"):
        file.unlink()
    program = (
        "import pickle, sys\n"
        "task = next(iter(pickle.load(open(sys.argv[1], 'rb')).tasks.values()))\n"
        "print(task.items.load()(None, None, [{}]))\n"
    )
    assert run_program(program, str(tmp_path / "prepared.pickle")) == "[111.0]\n"


def test_the_files_beside_a_scorer_belong_to_its_identity(tmp_path, items):
    write_helped(tmp_path / "one", 1.0)
    first = prepared_scorer(tmp_path / "one", items).facts["one_half"]
    (tmp_path / "one" / "unrelated.py").write_text("x = 1\n")
    assert prepared_scorer(tmp_path / "one", items).facts["one_half"] == first
    for file in ("base.py", "late.py", "tools/letters.py"):
        before = (tmp_path / "one" / file).read_text()
        (tmp_path / "one" / file).write_text(before + "# changed\n")
        assert prepared_scorer(tmp_path / "one", items).facts["one_half"]["scorer_digest"] != first["scorer_digest"]
        (tmp_path / "one" / file).write_text(before)


def test_a_file_with_the_name_of_an_installed_package_is_seen_by_its_neighbors_only(tmp_path, items, model, tokenizer):
    (tmp_path / "yaml.py").write_text("VALUE = 7.0\n")
    (tmp_path / "scorer.py").write_text(
        "import json, yaml\ndef half(model, tokenizer, items):\n    return [yaml.VALUE for _ in items]\n"
    )
    assert values(prepared_scorer(tmp_path, items), model, tokenizer) == {7.0}
    import yaml

    assert yaml.safe_load("a: 1") == {"a": 1}


def test_what_a_neighbor_raises_names_the_scorer(tmp_path, items):
    (tmp_path / "scorer.py").write_text("import helper\n" + SCORER)
    (tmp_path / "helper.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=r"scorer.py raised ZeroDivisionError"):
        prepared_scorer(tmp_path, items)
    (tmp_path / "helper.py").write_text("x = 1\n")
    prepared_scorer(tmp_path, items)
