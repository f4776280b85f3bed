"""`evomerge init --from`: a mergekit-evolve file becomes a search file that is checked, and says what it left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.api.init import init_from_genome
from evomerge.errors import InvalidFile
from evomerge.run import check_search
from tests.cli.test_newcomer import said

TASK = """task: digits
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: ["1", "2"]
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A folder with one small lm-eval task."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    documents = [{"q": f"{number} ", "a": number % 2} for number in range(40)]
    (folder / "docs.jsonl").write_text("\n".join(json.dumps(document) for document in documents))
    (folder / "digits.yaml").write_text(TASK.replace("FILE", str(folder / "docs.jsonl")))
    return folder


def translated(folder: Path, pico: dict[str, Path], tasks: list[Any] | None = None, **genome: Any) -> tuple[Any, str]:
    """Return the search that a genome becomes, and its notes in one text."""
    models = [str(pico["one"]), str(pico["two"])]
    data = {"genome": {"models": models, "base_model": str(pico["base"]), **genome}, "tasks": tasks or ["digits"]}
    (folder / "evolve.yml").write_text(yaml.safe_dump({**data, "limit": 10}))
    out = folder / "search.yaml"
    out.unlink(missing_ok=True)
    notes = init_from_genome(out, folder / "evolve.yml", check=False)
    return yaml.safe_load(out.read_text()), "\n".join(notes)


@pytest.mark.parametrize(
    ("genome", "size"),
    [
        ({"merge_method": "task_arithmetic"}, 2),
        ({"merge_method": "task_arithmetic", "layer_granularity": 1}, 2 * (3 + 1)),
        ({"merge_method": "ties", "layer_granularity": 2}, 2 * 2 * (2 + 1)),
        ({"merge_method": "dare_ties", "layer_granularity": 1, "smooth": True}, 2 * 2 * 3),
        ({"merge_method": "task_arithmetic", "filters": ["self_attn", "mlp"]}, 2 * 3),
        ({"merge_method": "linear", "layer_granularity": 3}, 2),
    ],
)
def test_the_space_has_as_many_numbers_as_the_genome(
    genome: dict[str, Any], size: int, pico: dict[str, Path], task_folder: Path
) -> None:
    search, _ = translated(task_folder.parent, pico, **genome)
    setup = check_search({**search, "task_path": str(task_folder), "workers": {"count": 0}})
    assert setup.space.domain.size == size


def test_a_slerp_has_a_base_and_one_model(pico: dict[str, Path], task_folder: Path) -> None:
    one = str(pico["one"])
    search, _ = translated(
        task_folder.parent, pico, merge_method="slerp", models=[one, str(pico["two"])], base_model=one
    )
    assert search["parents"] == {"base": one, "models": [str(pico["two"])]} and list(search["space"]["genes"]) == ["t"]


def test_what_cannot_be_carried_over_is_said_in_the_file(pico: dict[str, Path], task_folder: Path) -> None:
    tasks = ["digits", {"name": "toxic", "weight": -1.0}, {"name": "digits2", "metric": "acc,strict", "weight": 2.0}]
    models = [str(pico["base"]), str(pico["one"])]
    changes = {"merge_method": "dare_ties", "models": models, "tokenizer_source": "./models/third"}
    search, notes = translated(task_folder.parent, pico, tasks, allow_negative_weights=True, **changes)
    assert search["parents"] == {"base": models[0], "models": models[1:]}
    strict = {"task": "digits2", "metric": "acc,strict", "weight": 2.0}
    assert search["tasks"] == [{"task": "digits", "metric": "acc"}, strict]
    assert search["pools"]["search"] == 10 and search["space"]["genes"]["weight"]["range"] == [-0.5, 1.5]
    assert search["space"]["parameters"] == {"normalize": True}
    for word in ("toxic has weight -1", "is the base and was among the models", "tokenizer_source: ./models/third"):
        assert word in notes
        assert word.split()[0] in (task_folder.parent / "search.yaml").read_text()


@pytest.mark.parametrize(
    ("method", "source", "expected"),
    [("ties", "union", "union"), ("ties", "base", "base"), ("ties", "one", "one"), ("linear", "base", None)],
)
def test_the_tokenizer_is_carried_over(
    method: str, source: str, expected: str | None, pico: dict[str, Path], task_folder: Path
) -> None:
    named = str(pico[source]) if source == "one" else source
    search, notes = translated(task_folder.parent, pico, merge_method=method, tokenizer_source=named)
    if expected is None:
        assert "tokenizer" not in search and "is no parent here" in notes
        return
    assert search["tokenizer"] == (expected if expected == "union" else str(pico[expected]))
    setup = check_search({**search, "task_path": str(task_folder), "workers": {"count": 0}})
    assert setup.vocabulary is not None and not setup.vocabulary.row_bytes  # the parents share their tokens
    assert any("no row moves" in note for note in setup.notes)


def test_the_command_checks_what_it_wrote(pico: dict[str, Path], task_folder: Path) -> None:
    folder = task_folder.parent
    translated(folder, pico, merge_method="ties")
    answer = said("init", folder / "other.yaml", "--from", folder / "evolve.yml")
    assert "note: densities are searched from 0.05 to 1" in answer and "there is no task of this name" in answer
    (folder / "evolve.yml").write_text("genome: {merge_method: ram, models: [a], layer_granlarity: 2}\n")
    with pytest.raises(InvalidFile) as caught:
        init_from_genome(folder / "third.yaml", folder / "evolve.yml")
    assert not (folder / "third.yaml").exists()
    assert 'Did you mean "layer_granularity"?' in str(caught.value) and "tasks: is required" in str(caught.value)
