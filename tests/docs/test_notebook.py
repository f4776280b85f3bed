"""docs/merge.ipynb runs from top to bottom; only what its user is to fill in is filled in for pico models."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.code_blocks import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "merge.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
NAMES = {"mistralai/Mistral-7B-v0.1": "base", "HuggingFaceH4/zephyr-7b-beta": "one"}
NAMES["teknium/OpenHermes-2.5-Mistral-7B"] = "two"


def tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def filled_in(text: str, pico: dict[str, Path]) -> str:
    """Return a cell of settings with pico models and a small budget."""
    for name, parent in NAMES.items():
        text = text.replace(name, str(pico[parent]))
    text = re.sub(r'"hours": \d+', '"candidates": 3', text).replace(": 40", ": 8")
    return text.replace(', "gpus": 1', "")


@pytest.fixture(scope="module")
def ran(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The notebook's variables after its last cell, and its folder."""
    folder, before = tmp_path_factory.mktemp("notebook"), Path.cwd()
    names: dict[str, Any] = {"__folder__": folder}
    os.chdir(folder)
    try:
        for number, cell in enumerate(CELLS):
            text = "".join(cell["source"])
            text = filled_in(text, pico) if "settings" in tags(cell) else text
            if "install" not in tags(cell):
                exec(compile(text, f"merge.ipynb, cell {number}", "exec"), names)
    finally:
        os.chdir(before)
    return names


def test_it_is_a_clean_notebook() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 4)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)
    assert all(name in "".join("".join(cell["source"]) for cell in CELLS) for name in NAMES)


def test_one_cell_gives_a_model_with_its_card(ran: dict[str, Any]) -> None:
    folder = ran["__folder__"] / ran["folder"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---") and "merge_method: slerp" in card
    assert list(folder.glob("*.safetensors"))


def test_nothing_is_uploaded_by_itself(ran: dict[str, Any]) -> None:
    assert ran["UPLOAD"] is False
    assert ran["upload"].url is None
    assert "README.md" in dict(ran["upload"].files)


def test_the_search_ends_with_a_verdict_and_a_model(ran: dict[str, Any]) -> None:
    run = ran["run"]
    assert run.state == "done" and run.verdict["text"]
    assert "<svg" in run._repr_html_()
    assert (ran["__folder__"] / "best" / "README.md").exists()
