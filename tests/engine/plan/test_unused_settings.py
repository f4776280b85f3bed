"""What a recipe sets without effect is accepted and said, never passed over."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evomerge.api.merge import merge, plan_merge


def ties(pico: dict[str, Path], base: dict[str, Any], one: dict[str, Any], **rest: Any) -> dict[str, Any]:
    models = [{"model": str(pico["base"]), **base}, {"model": str(pico["one"]), "parameters": {"weight": 0.5, **one}}]
    return {"merge_method": "ties", "base_model": str(pico["base"]), "models": models, **rest}


def notes(document: dict[str, Any]) -> list[str]:
    return [note for note in plan_merge(document)[0].notes if "effect" in note or "filter" in note]


def test_parameters_of_the_base(pico: dict[str, Path]) -> None:
    found = notes(ties(pico, {"parameters": {"weight": 1, "density": 1}}, {}))
    assert [note.split(" of ")[0] for note in found] == ["weight", "density"]
    assert all("has no effect: it is the base" in note for note in found)
    assert notes(ties(pico, {}, {})) == []


def test_an_input_of_a_method_without_a_base_is_no_base(pico: dict[str, Path]) -> None:
    document = ties(pico, {"parameters": {"weight": 1}}, {}) | {"merge_method": "linear"}
    assert notes(document) == []


def test_parameters_that_change_no_number(pico: dict[str, Path]) -> None:
    (note,) = notes(ties(pico, {}, {}, parameters={"int8_mask": True}))
    assert note.startswith("int8_mask is accepted but has no effect with ties")


def test_a_recipe_that_names_only_its_base_is_the_base(pico: dict[str, Path], tmp_path: Path) -> None:
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(pico["base"]),
        "models": [{"model": str(pico["base"]), "parameters": {"weight": 1.0}}],
    }
    merge(document, tmp_path / "out")
    expected, found = (load_file(folder / "model.safetensors") for folder in (pico["base"], tmp_path / "out"))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("level", ["models", "slices", "recipe"])
def test_filters_that_match_no_tensor(level: str, pico: dict[str, Path]) -> None:
    values = [{"filter": "self_atn", "value": 1}, {"filter": "mlp", "value": 0.2}, {"filter": "*", "value": 0.5}]
    document = ties(pico, {}, {})
    if level == "models":
        document["models"][1]["parameters"]["density"] = values
    elif level == "recipe":
        document["parameters"] = {"density": values}
    else:
        sources = [{**each, "layer_range": [0, 3]} for each in document.pop("models")]
        document["slices"] = [{"sources": sources, "parameters": {"density": values}}]
    (note,) = notes(document)
    assert note.startswith('the filter "self_atn" is part of no tensor')


def test_a_filter_may_name_a_layer_of_an_input(pico: dict[str, Path], tmp_path: Path) -> None:
    source = {
        "model": str(pico["one"]),
        "layer_range": [2, 3],
        "parameters": {"scale": [{"filter": ".2.", "value": 2}]},
    }
    document = {"merge_method": "passthrough", "slices": [{"sources": [source]}]}
    assert notes(document) == []
    merge(document, tmp_path / "out")


def test_residual_weight_of_old_files(pico: dict[str, Path]) -> None:
    part = {"sources": [{"model": str(pico["one"]), "layer_range": [0, 3]}], "residual_weight": 0.5}
    for document in ({"slices": [part]}, {"modules": {"default": {"slices": [part]}}}):
        (note,) = notes({"merge_method": "passthrough", **document})
        assert note.startswith("residual_weight is accepted but has no effect")
