"""From recipe and parents to a plan: which numbers a tensor gets, and what is said when it cannot be built."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine import (
    LiveModel,
    Plan,
    make_plan,
    write_folder,
)
from evomerge.errors import DegenerateModel, EvomergeError, MergeFailed
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico


def planned(document: dict[str, Any]) -> tuple[Plan, Parents]:
    recipe = parse_recipe(document)
    parents = Parents(recipe.models)
    return make_plan(recipe, parents), parents


def weights_of(plan: Plan, tensor: str, name: str = "weight") -> list[float]:
    return next(entry for entry in plan.tensors if entry.name == tensor).settings.each(name)


def linear(pico: dict[str, Path], one: Any, two: Any, **changes: Any) -> dict[str, Any]:
    pairs = (("one", one), ("two", two))
    models = [
        {"model": str(pico[name]), **({"parameters": {"weight": w}} if w is not None else {})} for name, w in pairs
    ]
    return {"merge_method": "linear", "models": models, **changes}


def stack(pico: dict[str, Path], *blocks: tuple[str, int, int], **changes: Any) -> dict[str, Any]:
    slices = [{"sources": [{"model": str(pico[name]), "layer_range": [start, end]}]} for name, start, end in blocks]
    return {"merge_method": "passthrough", "slices": slices, **changes}


# -- values -----------------------------------------------------------------------------------------------------------


def test_gradients_filters_and_levels_reach_the_tensors(pico: dict[str, Path]) -> None:
    one = [{"filter": "mlp", "value": [0.0, 1.0]}, {"filter": "norm", "value": 0.7}]
    plan, _ = planned(linear(pico, one, [0.2, 0.4, 0.6], parameters={"weight": 0.9}))
    for layer, (mlp, two) in enumerate(((0.0, 0.2), (0.5, 0.4), (1.0, 0.6))):
        block = f"model.layers.{layer}"
        assert weights_of(plan, f"{block}.mlp.up_proj.weight") == pytest.approx([mlp, two])
        assert weights_of(plan, f"{block}.input_layernorm.weight") == pytest.approx([0.7, two])
        assert weights_of(plan, f"{block}.self_attn.q_proj.weight") == pytest.approx([0.9, two]), "the recipe's level"
    assert weights_of(plan, "model.embed_tokens.weight") == [0.9, 0.2], (
        "tensors outside the blocks stand at the gradient's start"
    )
    assert weights_of(plan, "model.norm.weight") == [0.7, 0.2]
    assert weights_of(plan, "lm_head.weight") == [0.9, 0.2]


def test_a_gradient_spans_its_slice(pico: dict[str, Path]) -> None:
    document = stack(pico, ("one", 0, 2), ("two", 2, 3), ("one", 0, 3))
    document["parameters"] = {"scale": [1.0, 3.0]}
    plan, _ = planned(document)
    scales = [weights_of(plan, f"model.layers.{layer}.mlp.up_proj.weight", "scale") for layer in range(6)]
    assert scales == [[1.0], [3.0], [3.0], [1.0], [2.0], [3.0]], "a slice of one layer is at the gradient's end"
    assert plan.config["num_hidden_layers"] == 6
    assert [layer for _, layer in plan.layers] == [0, 1, 2, 0, 1, 2]


def test_ends_come_from_the_first_and_the_last_slice(pico: dict[str, Path], tmp_path: Path) -> None:
    plan, parents = planned(stack(pico, ("one", 0, 0), ("two", 1, 2), ("three", 0, 0)))
    write_folder(plan, parents, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    sources = {name: load_file(pico[name] / "model.safetensors") for name in ("one", "two", "three")}
    assert torch.equal(written["model.embed_tokens.weight"], sources["one"]["model.embed_tokens.weight"])
    assert torch.equal(written["lm_head.weight"], sources["three"]["lm_head.weight"])
    inner = "mlp.up_proj.weight"
    assert torch.equal(written[f"model.layers.0.{inner}"], sources["two"][f"model.layers.1.{inner}"])


# -- what cannot be built ---------------------------------------------------------------------------------------------


def test_what_cannot_be_planned_is_a_sentence(pico: dict[str, Path], tmp_path: Path) -> None:
    wide = {**pico, "two": write_pico(tmp_path / "wide", 5, hidden_size=48, dtype="bfloat16")}
    lost = {**pico, "two": Path(shutil.copytree(pico["two"], tmp_path / "lost"))}
    tensors = load_file(lost["two"] / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, lost["two"] / "model.safetensors", metadata={"format": "pt"})
    cases: list[tuple[dict[str, Any], str]] = [
        (linear(wide, 0.5, 0.5), "only models of one architecture and vocabulary"),
        (linear(wide, 0.5, 0.5), "64x48 in"),
        (linear(lost, 0.5, 0.5), f"{lost['two']} has no tensor model.layers.1.mlp.up_proj.weight"),
        (linear(pico, {"filter": "mlp", "value": 1}, 1), f"weight of {pico['one']} has no value for"),
        (stack(pico, ("one", 0, 4)), "has 3 layers, layer_range [0, 4] asks for more"),
        (stack(pico, ("one", 0, 0), ("two", 0, 0)), "hold no layer at all"),
        (stack(pico, ("one", 0, 3), evomerge={"gains": [1, 2]}), "gains: found 2 values, expected one for each of 3"),
    ]
    for document, sentence in cases:
        with pytest.raises(MergeFailed) as caught:
            planned(document)
        assert sentence in str(caught.value), caught.value
        assert len(str(caught.value).splitlines()) <= 6, "only the first few problems are listed"


Sink = Callable[[Plan, Parents, Path], None]


def to_folder(plan: Plan, parents: Parents, tmp_path: Path) -> None:
    write_folder(plan, parents, tmp_path / "out")


def to_live(plan: Plan, parents: Parents, tmp_path: Path) -> None:
    LiveModel(parents).apply(plan)


@pytest.mark.parametrize("sink", [to_folder, to_live])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_linear", "stack"])
def test_nan_in_a_parent_is_that_parents_fault(method: str, sink: Sink, pico: dict[str, Path], tmp_path: Path) -> None:
    bad = Path(shutil.copytree(pico["two"], tmp_path / "bad"))
    tensors = load_file(bad / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][2, 3] = torch.inf
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    mine = {**pico, "two": bad}
    document = stack(mine, ("one", 0, 1), ("two", 1, 3)) if method == "stack" else linear(mine, 0.5, 0.5)
    if method not in ("stack", "linear"):
        document |= {"merge_method": method, "base_model": str(pico["base"])}
    plan, parents = planned(document)
    with pytest.raises(DegenerateModel) as caught:
        sink(plan, parents, tmp_path)
    assert f"{bad}: model.layers.1.mlp.down_proj.weight holds NaN or infinity already" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"], "nothing is left behind"


def test_a_merge_that_overflows_is_the_weights_fault(pico: dict[str, Path], tmp_path: Path) -> None:
    document = linear(pico, 1e38, 1e38, parameters={"normalize": False}, dtype="float16")
    for sink in (to_folder, to_live):
        with pytest.raises(DegenerateModel, match=r"is not finite in float16: the weights are too large"):
            sink(*planned(document), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_live_model_recovers_from_a_failure(pico: dict[str, Path], tmp_path: Path) -> None:
    sane, huge = linear(pico, 0.3, 0.4), linear(pico, 3e38, 3e38, parameters={"normalize": False}, dtype="bfloat16")
    plan, parents = planned(sane)
    live = LiveModel(parents)
    live.apply(plan)
    kept = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    with pytest.raises(EvomergeError):
        live.apply(make_plan(parse_recipe(huge), parents))
    live.apply(plan)
    assert all(torch.equal(tensor, live.model.state_dict()[name]) for name, tensor in kept.items())


def test_an_existing_folder_is_left_alone(pico: dict[str, Path], tmp_path: Path) -> None:
    plan, parents = planned(linear(pico, 0.5, 0.5))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(EvomergeError, match="exists already"):
        write_folder(plan, parents, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize("position", [0, 1])
def test_a_method_may_copy_any_of_its_models(
    position: int, pico: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a method may come from another package."""
    method = methods.get("linear")
    monkeypatch.setattr(type(method), "copied_model", lambda self, settings: position)
    plan, parents = planned(linear(pico, 0.5, 0.5))
    assert all(tensor.copied and tensor.models[0].model == list(parents)[position] for tensor in plan.tensors)
    write_folder(plan, parents, tmp_path / "out")
    expected = load_file(pico[("one", "two")[position]] / "model.safetensors")
    assert all(
        torch.equal(tensor, expected[name])
        for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items()
    )
