"""Layers as a limit, and as the second axis of a front."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evomerge.cli import cli
from evomerge.errors import InvalidFile
from evomerge.results import front_document, report_page
from evomerge.run import Run, check_search
from tests.run.pico_search import task, write_search

STACK = {"method": "passthrough", "genes": {"repeat": {"per": "layer", "range": [0, 2]}}}
DEEPER = '''

def deeper(model, tokenizer, items):
    """Deeper models are better, and never sure to be right."""
    depth = model.config.num_hidden_layers
    return [1.0 if item["number"] % 7 < depth else 0.0 for item in items]
'''


@pytest.fixture
def stacks(pico: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a search of stacks of the three layers of a model, of which more layers score better."""

    def write(layers: dict[str, Any], **changes: Any) -> Path:
        tasks = [task("deeper"), {"evaluator": "layers", **layers}]
        file = write_search(tmp_path, pico, space=STACK, tasks=tasks, budget={"candidates": 40}, **changes)
        (tmp_path / "near.py").write_text((tmp_path / "near.py").read_text() + DEEPER)
        return file

    return write


def depth_of(candidate: Any) -> float:
    return -candidate.scores["select"]["layers"].value


def run_of(file: Path) -> Run:
    from evomerge.run import search

    return search(file, file.parent / "run")


def test_at_most_so_many_layers(stacks: Callable[..., Path]) -> None:
    run = run_of(stacks({"floor": 4}))
    assert run.pick is not None and depth_of(run.pick) == 4, "more layers are better, and four are allowed"
    searched = [c for c in run.candidates() if c.kind == "candidate" and c.state == "scored"]
    assert max(-c.scores["search"]["layers"].value for c in searched) > 4, "deeper ones were tried"
    assert run.fact("notes") is not None and not any("go by layers" in note for note in run.notes)
    row = next(row for row in front_document(run)["candidates"] if row["id"] == run.pick.id)
    assert row["report"]["layers"] == {"value": 4.0, "stderr": None, "n": 1}
    verdict = run.verdict
    assert verdict is not None and verdict["floors"][0] == {
        "objective": "layers", "floor": 4.0, "value": 4.0, "interval": [4.0, 4.0], "met": True,
    }  # fmt: skip
    shown = CliRunner().invoke(cli, ["front", str(run.path), "--sort", "layers"])
    assert shown.exit_code == 0 and " 4 " in shown.output and "4.000 ±" not in shown.output
    assert "layers" in report_page(run)


def test_a_front_of_score_and_layers(stacks: Callable[..., Path]) -> None:
    run = run_of(stacks({}, optimizer="nsga2", proof={"finalists": 8, "front": True}))
    members = sorted((depth_of(c), c.scores["select"]["deeper"].value) for c in run.front)
    assert len({depth for depth, _ in members}) > 2
    ordered = [score for _, score in sorted(set(members))]
    assert ordered == sorted(ordered), "each further layer is worth something"
    thrifty = run.preferred({"deeper": 0.0, "layers": 1.0})
    assert thrifty is not None and depth_of(thrifty) == members[0][0]
    assert run.knee is not None


def test_check_says_how_layers_count(stacks: Callable[..., Path]) -> None:
    for layers, said in (({"floor": 4}, "no part of the mean, at most 4"), ({}, "catcma does not go by layers")):
        shown = CliRunner().invoke(cli, ["check", str(stacks(layers))])
        assert shown.exit_code == 0 and said in shown.output
    shown = CliRunner().invoke(cli, ["check", str(stacks({"weight": 0.1}))])
    assert "layers does not run from 0 to 1" in shown.output.replace("\n", " ")
    shown = CliRunner().invoke(cli, ["check", str(stacks({"weight": 0.1, "scale": [1, 6]}))])
    assert "run from 0 to 1" not in shown.output


def test_something_must_count(pico: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no objective has a weight above 0"):
        check_search(write_search(tmp_path, pico, tasks=[task(weight=0), {"evaluator": "layers"}]))
