"""What a newcomer stumbled over, the same steps again: each test is a command and the answer that was missing."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli import cli
from evomerge.errors import EvomergeError
from evomerge.testing.pico import write_pico

SCORERS = """
def level(model, items):
    weights = dict(model.named_parameters())["model.layers.0.mlp.up_proj.weight"].float().flatten()[::7]
    return [float(weights.sum()) + item["number"] for item in items]


def above(model, tokenizer, items):
    return [1.0 if value > 20 else 0.0 for value in level(model, items)]


def height(model, tokenizer, items):
    return level(model, items)


def misspelled(model, tokenizer, items):
    return [item["nubmer"] for item in items]


def forgetful(model):
    return 1.0
"""
ITEMS = "\n".join(json.dumps({"number": number % 40, "id": number}) for number in range(60))
POOLS = {"search": 20, "select": 20, "report": 20}


def search_file(folder: Path, pico: dict[str, Path], *functions: str, **changes: Any) -> Path:
    """Write a search file with these scorers."""
    (folder / "mine.py").write_text(SCORERS)
    (folder / "items.jsonl").write_text(ITEMS)
    data = {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": "global_task_arithmetic",
        "tasks": [{"scorer": f"mine.py:{function}", "items": "items.jsonl"} for function in functions],
        "pools": POOLS,
        "subset": {"size": 10},
        "budget": {"candidates": 4},
        "workers": {"count": 0},
        "proof": {"finalists": 1},
        **changes,
    }
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def said(*arguments: str | Path) -> str:
    """Return what a command says, on stdout and stderr, its errors included."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, EvomergeError | SystemExit):
        raise result.exception
    return result.output + ("" if result.exception is None else f"\n{result.exception}")


@pytest.fixture(scope="module")
def folder(pico: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search for two objectives in different units, one with a floor."""
    folder = tmp_path_factory.mktemp("newcomer")
    tasks = [
        {"scorer": "mine.py:above", "items": "items.jsonl", "floor": 0.99},
        {"scorer": "mine.py:height", "items": "items.jsonl"},
    ]
    file = search_file(folder, pico, tasks=tasks)
    (folder / "said.txt").write_text(said("search", file, "--out", folder / "run"))
    return folder


# -- scorers ----------------------------------------------------------------------------------------------------------


def test_check_calls_each_scorer_on_two_items(pico: dict[str, Path], tmp_path: Path) -> None:
    answer = said("check", search_file(tmp_path, pico, "above", "misspelled"))
    assert "tasks.1: called on 2 items with" in answer and "raised KeyError: 'nubmer'" in answer
    assert "mine.py, line 16" in answer and 'item["nubmer"]' in answer


def test_a_wrong_signature_is_said_with_the_right_one(pico: dict[str, Path], tmp_path: Path) -> None:
    answer = said("check", search_file(tmp_path, pico, "forgetful"))
    assert "forgetful(model) cannot be called as scorer(model, tokenizer, items)" in answer


def test_references_that_all_fail_stop_the_run_and_explain_shows_the_traceback(
    pico: dict[str, Path], tmp_path: Path
) -> None:
    file = search_file(tmp_path, pico, "misspelled", budget={"candidates": 50})
    answer = said("search", file, "--out", tmp_path / "run")
    assert "none of the 8 references could be scored" in answer and "candidate 8" not in answer
    explained = said("explain", tmp_path / "run", "0")
    assert 'return [item["nubmer"] for item in items]' in explained and "KeyError" in explained


# -- units ------------------------------------------------------------------------------------------------------------


def test_objectives_in_different_units_are_warned_of(folder: Path) -> None:
    warning = "height (here "
    assert warning in said("check", folder / "search.yaml")
    assert (
        f"note: the pick is chosen by the weighted mean of 2 objectives, and {warning}"
        in (folder / "said.txt").read_text()
    )
    assert warning in said("status", folder / "run")


# -- the front --------------------------------------------------------------------------------------------------------


def test_every_row_of_the_front_has_its_scores(folder: Path) -> None:
    lines = [line for line in said("front", folder / "run", "--all").splitlines() if line[:4].strip().isdigit()]
    assert len(lines) > 12 and all("±" in line for line in lines)
    heads = next(line for line in said("front", folder / "run").splitlines() if "what" in line)
    assert heads.split()[:5] == ["id", "what", "pool", "above", "height"]
    assert "adjusted" in heads and "search mean" in heads


def test_a_score_below_its_floor_is_marked(folder: Path) -> None:
    answer = said("front", folder / "run")
    assert "! misses the floor of above: 0.9900" in answer and " ! 0." in answer


def test_the_front_as_csv_and_sorted(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(said("front", folder / "run", "--all", "--csv", "--sort", "id"))))
    assert [int(row["id"]) for row in rows] == list(range(len(rows)))
    assert all(row["search height"] for row in rows if row["kind"] != "mean")
    ordered = list(csv.DictReader(io.StringIO(said("front", folder / "run", "--csv", "--sort", "height"))))
    heights = [float(row["report height"]) for row in ordered if row["report height"]]
    assert heights == sorted(heights, reverse=True) and len(heights) > 2
    assert 'Did you mean "height"?' in said("front", folder / "run", "--sort", "heigth")


def test_intervals_of_shares_stay_between_0_and_1(folder: Path) -> None:
    document = json.loads(said("explain", folder / "run", "0", "--json"))
    low, high = document["scores"]["search"]["above"]["interval"]
    assert 0 <= low <= high <= 1


def test_explain_says_what_a_factor_is_and_shows_the_gains_of_a_stack(
    folder: Path, pico: dict[str, Path], tmp_path: Path
) -> None:
    assert "factor: what a parent's difference from the base is multiplied by" in said("explain", folder / "run", "4")
    file = search_file(tmp_path, pico, "above", space="block_stack", budget={"candidates": 2}, optimizer="random")
    assert f"the base, {pico['base']}, is a source like the others" in said("check", file)
    said("search", file, "--out", tmp_path / "run")
    stack = json.loads(said("explain", tmp_path / "run", "8", "--json"))["stack"]
    assert stack and {"layer", "model", "block", "gain"} == set(stack[0])
    assert "gain: the factor on what the block adds" in said("explain", tmp_path / "run", "8")


# -- while it runs, and after -----------------------------------------------------------------------------------------


def test_references_are_counted_and_the_log_is_there(folder: Path) -> None:
    assert "scoring references 0 of 8" in (folder / "said.txt").read_text()
    assert "done" in (folder / "run" / "logs" / "run.log").read_text()


def test_the_estimate_includes_references_and_proof(folder: Path) -> None:
    cost = next(line for line in said("check", folder / "search.yaml").splitlines() if line.startswith("cost"))
    assert "for references" in cost and "for the proof" in cost and "in all" in cost


def test_a_pick_that_is_not_better_is_not_recommended(pico: dict[str, Path], tmp_path: Path) -> None:
    """Every model is the base: nothing can be better."""
    for name in ("one", "two"):
        shutil.copytree(pico["base"], tmp_path / name)
    same = {"base": pico["base"], "one": tmp_path / "one", "two": tmp_path / "two"}
    answer = said("search", search_file(tmp_path, same, "above"), "--out", tmp_path / "run").splitlines()
    last = next(line for line in reversed(answer) if line.startswith("next:"))
    assert "evomerge export" not in last and str(pico["base"]) in last


# -- messages ---------------------------------------------------------------------------------------------------------


def test_a_family_is_called_that(pico: dict[str, Path], tmp_path: Path) -> None:
    other = write_pico(tmp_path / "gpt2", 1, family="gpt2")
    parents = {"base": str(pico["base"]), "models": [str(pico["one"]), str(other)]}
    assert "has architecture GPT2LMHeadModel" in said("check", search_file(tmp_path, pico, "above", parents=parents))
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(path), "parameters": {"weight": 1}} for path in (pico["one"], other)],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "the models are of different families" in said("check", tmp_path / "recipe.yaml")


def test_another_seed_and_another_floor_are_one_line_each(folder: Path, pico: dict[str, Path], tmp_path: Path) -> None:
    answer = said("search", folder / "search.yaml", "--out", folder / "run", "--seed", "5")
    refusals = [line for line in answer.splitlines() if "differs from what this run was started with" in line]
    assert len(refusals) == 1 and "seed: differs" in refusals[0] and "(was 0, now 5)" in refusals[0]
    data = yaml.safe_load((folder / "search.yaml").read_text())
    data["tasks"][0]["floor"] = 0.5
    (folder / "other.yaml").write_text(yaml.safe_dump(data))
    answer = said("search", folder / "other.yaml", "--out", folder / "run")
    assert "tasks.above.floor: differs" in answer and "(was 0.99, now 0.5)" in answer


def test_an_absolute_path_is_looked_for_nowhere_else(pico: dict[str, Path], tmp_path: Path) -> None:
    parents = {"base": str(pico["base"]), "models": [str(pico["one"]), "/nowhere/at/all"]}
    answer = said("check", search_file(tmp_path, pico, "above", parents=parents))
    assert "/nowhere/at/all: no such folder" in answer and "looked in" not in answer


def test_too_few_items_are_counted_with_the_reason(pico: dict[str, Path], tmp_path: Path) -> None:
    file = search_file(tmp_path, pico, "above")
    (tmp_path / "items.jsonl").write_text(f"{ITEMS}\n{ITEMS}")
    data = {**yaml.safe_load(file.read_text()), "pools": {"search": 40, "select": 20, "report": 20}}
    file.write_text(yaml.safe_dump(data))
    assert "of its items, of which 60 are distinct (120, of which 60 are repeated)" in said("check", file)


def test_check_knows_a_mixture_by_its_keys(pico: dict[str, Path], tmp_path: Path) -> None:
    experts = [{"source_model": str(pico[name]), "positive_prompts": ["a"]} for name in ("one", "two")]
    mixture = {"base_model": str(pico["base"]), "gate_mode": "cheap_embed", "experts": experts}
    (tmp_path / "moe.yaml").write_text(yaml.safe_dump(mixture))
    answer = said("check", tmp_path / "moe.yaml")
    assert "mixtral, gate_mode cheap_embed" in answer and "space" not in answer


def test_the_cosine_is_said_to_be_of_what(folder: Path) -> None:
    assert "cosine of its weights and the base's 0." in said("check", folder / "search.yaml")
