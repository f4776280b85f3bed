"""The scorers of docs/scorers.md as `check` calls them; test_code_blocks.py runs the page's search."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from evomerge.run import check_search, try_scorers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scorers.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FILES = {found[1]: block for block in BLOCKS if (found := re.match(r"# file: (\w+\.py)\n", block))}
SUMS = [{"prompt": f"{i}+{i % 7}=", "answer": str(i + i % 7)} for i in range(60)]


@pytest.fixture
def folder(pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with models, items and the page's files."""
    for name in ("base", "one", "two"):
        shutil.copytree(pico[name], tmp_path / "models" / name)
    for name, block in FILES.items():
        (tmp_path / name).write_text(block)
    (tmp_path / "sums.jsonl").write_text("\n".join(json.dumps(item) for item in SUMS))
    requests = [{"prompt": f"user {i}: ", "keys": ["name", "age"]} for i in range(60)]
    (tmp_path / "requests.jsonl").write_text("\n".join(json.dumps(item) for item in requests))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_examples_score_items(folder: Path) -> None:
    entry = {
        "parents": {"base": "models/base", "models": ["models/one", "models/two"]},
        "space": "global_task_arithmetic",
        "tasks": [
            {"scorer": "gold_likelihood.py:gold_likelihood", "items": "sums.jsonl"},
            {"scorer": "answers_in_json.py:answers_in_json", "items": "requests.jsonl", "weight": 0.5},
        ],
        "pools": {"search": 20, "select": 20, "report": 20},
        "workers": {"count": 0},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(entry))
    values = try_scorers(check_search(folder / "search.yaml")).values
    assert len(values["gold_likelihood"]) == 2 and all(value < -1 for value in values["gold_likelihood"])
    assert values["answers_in_json"] == [0, 0], "a random model writes no JSON"


def test_the_property_is_checked(folder: Path) -> None:
    names: dict[str, object] = {}
    exec(FILES["answers_in_json.py"], names)
    has_keys = names["has_keys"]
    assert callable(has_keys)
    texts = ['{"name": "a", "age": 3}', '{"name": "a"}', '["name", "age"]', "name, age"]
    assert [has_keys(text, ["name", "age"]) for text in texts] == [1, 0, 0, 0]
