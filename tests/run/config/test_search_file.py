"""Checking a search file: every problem at once, each with its place; and nothing for a valid one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.errors import InvalidFile, InvalidInput, RefusedForSafety
from evomerge.run import check_search, resource_needs
from evomerge.testing.pico import write_pico
from tests.run.pico_search import task, write_search

CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "test_split": "test",
    "dataset_path": "json",
    "metadata": {"version": 1.0},
}


def write_task(folder: Path, name: str, count: int) -> None:
    """Write a multiple-choice task that pico models can read."""
    folder.mkdir(exist_ok=True)
    letters = "abcdefghij"
    docs = [
        {
            "question": f"q{i}: {letters[i % 10]}{letters[(3 * i) % 10]}",
            "choices": [f"{letters[(i + j) % 10]}{letters[(7 * i + 3 * j) % 10]}" for j in range(3)],
            "label": i % 3,
        }
        for i in range(count)
    ]
    (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(doc) for doc in docs))
    content = {**CHOICE, "task": name, "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


DENSE = {
    "method": "dare_ties",
    "genes": {"weight": {"per": ["model"], "range": [0, 1.5]}, "density": {"per": ["model"], "range": [0.1, 1]}},
}


@pytest.fixture
def valid(pico: dict[str, Path], tmp_path: Path) -> Path:
    write_task(tmp_path / "tasks", "letters", 40)
    return write_search(
        tmp_path,
        pico,
        space=DENSE,
        tasks=[{"task": "letters", "metric": "acc"}, task()],
        task_path="tasks",
        pools={"search": 16, "select": 12, "report": 12},
        subset={"size": 8},
    )


def edit(file: Path, change: Any) -> None:
    data = yaml.safe_load(file.read_text())
    change(data)
    file.write_text(yaml.safe_dump(data))


def test_a_valid_file_has_no_problem(valid: Path) -> None:
    setup = check_search(valid)
    assert [objective.name for objective in setup.objectives] == ["letters", "nearness"]
    assert setup.optimizer == "guided"
    assert resource_needs(setup).memory_needed > 0
    assert check_search(valid).identity() == setup.identity()


def test_five_mistakes_are_five_sentences(valid: Path, pico: dict[str, Path], tmp_path: Path) -> None:
    wide = write_pico(tmp_path / "wide", 9, hidden_size=64)

    def spoil(data: dict[str, Any]) -> None:
        data["parents"]["models"].append(str(wide))
        data["space"]["genes"]["density"]["range"] = [0, 1]
        data["tasks"] = [{"task": "lettres", "metric": "acc"}, {"task": "letters"}]
        data["pools"]["report"] = 500
        data["buget"] = data.pop("budget")

    edit(valid, spoil)
    with pytest.raises(InvalidFile) as caught:
        check_search(valid)
    assert caught.value.exit_code == 2
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == 5, "\n".join(problems)
    for problem in problems:
        assert problem.startswith(f"{valid}: "), problem
    expected = (
        ("", 'unknown key "buget"', 'Did you mean "budget"?'),
        ("parents", f"{wide} has hidden size 64, but {pico['base']} has 32"),
        ("density.range", "starts at 0, expected a value above 0"),
        ("tasks.0 (lettres)", "there is no task of this name", 'Did you mean "letters"?'),
        ("tasks.1 (letters)", "report 500", "which has 40 distinct documents"),
    )
    for words in expected:
        found = [problem for problem in problems if all(word in problem for word in words)]
        assert len(found) == 1, f"{words}\n" + "\n".join(problems)


ONE_MISTAKE: dict[str, tuple[Any, str]] = {
    "no tasks": (lambda d: d.pop("tasks"), "tasks: is required but missing"),
    "no parents": (lambda d: d.pop("parents"), "parents: is required but missing"),
    "a time-out without Ray": (lambda d: d.update(workers={"count": 0, "timeout": 9}), "timeout: has no effect"),
    "unknown space": (lambda d: d.update(space="layerwise_tys"), 'Did you mean "layerwise_ties"'),
    "unknown optimizer": (lambda d: d.update(optimizer="cmaa"), 'Did you mean "cma"'),
    "unknown option": (lambda d: d.update(optimizer={"name": "cma", "popsiz": 8}), 'Did you mean "popsize"'),
    "categories for cma": (
        lambda d: d.update(optimizer="cma", space={"method": "passthrough", "genes": {"source": {"per": "layer"}}}),
        "cma cannot vary categories",
    ),
    "parent twice": (lambda d: d["parents"]["models"].append(d["parents"]["models"][0]), "stands twice"),
    "missing parent": (lambda d: d["parents"]["models"].append("./nowhere"), "no such folder"),
    "subset": (lambda d: d.update(subset={"size": 17}), "more than pools.search has"),
    "empty budget": (lambda d: d.update(budget={}), "needs at least one of candidates:, hours: and items:"),
    "scale": (lambda d: d["tasks"][0].update(scale=[1, 0]), "expected [low, high] with low < high"),
    "both sources": (lambda d: d["tasks"][0].update(scorer="near.py:nearness"), "exactly one of task:"),
    "no function": (lambda d: d["tasks"][1].update(scorer="near.py:nearnes"), 'Did you mean "nearness"'),
    "no scorer file": (lambda d: d["tasks"][1].update(scorer="far.py:f"), "is not there"),
    "no start": (lambda d: d.update(start=["none.yaml"]), "no such file"),
    "metric": (lambda d: d["tasks"][0].update(metric="acc_nrm"), "acc"),
    "negative weight": (lambda d: d["tasks"][0].update(weight=-1), "tasks.0.weight"),
    "seed": (lambda d: d.update(seed=-1), "seed: found -1"),
    "empty density": (lambda d: d["space"]["genes"]["density"].update(range=[1, 0.5]), "low < high"),
    "unknown gene": (lambda d: d["space"]["genes"].update(densty={"range": [0.1, 1]}), 'Did you mean "density"'),
}


@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_one_mistake_is_one_sentence(name: str, valid: Path) -> None:
    change, sentence = ONE_MISTAKE[name]
    edit(valid, change)
    with pytest.raises(InvalidFile) as caught:
        check_search(valid)
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == 1, "\n".join(problems)
    assert sentence in problems[0]
    assert "\n" not in problems[0]


def test_a_pickle_among_the_parents_is_refused_for_safety(valid: Path, tmp_path: Path) -> None:
    sly = tmp_path / "sly"
    sly.mkdir()
    (sly / "config.json").write_text("{}")
    (sly / "pytorch_model.bin").write_bytes(b"\x80\x04never opened")
    edit(valid, lambda data: data["parents"]["models"].append(str(sly)))
    with pytest.raises(RefusedForSafety, match="pickle") as caught:
        check_search(valid)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "a: 1\na: 2", "{", "a: !!python/object:os.system {}"])
def test_what_is_no_search_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(text)
    with pytest.raises(InvalidInput):
        check_search(tmp_path / "search.yaml")
