"""Derivatives by recipe parameters through the live model: equal to autograd through the merge, and to differences."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, collected_gradients, make_plan
from evomerge.methods import Direction
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico

IDS = torch.tensor([[3, 9, 14, 2, 40, 7, 21, 33]])


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and two fine-tunes in float32, so that differences of the loss can be taken."""
    root = tmp_path_factory.mktemp("gradients")
    base = write_pico(root / "base", 0, dtype="float32")
    return {
        "base": base,
        "one": write_pico(root / "one", 1, near=base, dtype="float32"),
        "two": write_pico(root / "two", 2, near=base, dtype="float32"),
    }


def document(parents: dict[str, Path], method: str, weights: tuple[float, float], **shared: Any) -> dict[str, Any]:
    models = [
        {"model": str(parents[name]), "parameters": {"weight": weight}}
        for name, weight in zip(("one", "two"), weights, strict=True)
    ]
    parameters = {"parameters": shared} if shared else {}
    return {
        "merge_method": method,
        "base_model": str(parents["base"]),
        "models": models,
        "dtype": "float32",
        **parameters,
    }


def loss_of(model: Any) -> torch.Tensor:
    return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def collected(parents: dict[str, Path], recipe: dict[str, Any], directions: list[Direction]) -> tuple[Any, Any]:
    """Return the plan and the table of a loss."""
    parsed = parse_recipe(recipe)
    opened = Parents(parsed.models)
    live, plan = LiveModel(opened), make_plan(parsed, opened)
    live.apply(plan)
    with collected_gradients(live, plan, directions) as table:
        loss_of(live.model).backward()
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in live.model.parameters())
    return plan, table


def loss_at(parents: dict[str, Path], recipe: dict[str, Any]) -> float:
    parsed = parse_recipe(recipe)
    opened = Parents(parsed.models)
    live = LiveModel(opened)
    live.apply(make_plan(parsed, opened))
    with torch.no_grad():
        return float(loss_of(live.model).double())


@pytest.mark.parametrize(
    ("method", "shared"),
    [
        ("task_arithmetic", {}),
        ("task_arithmetic", {"normalize": True, "lambda": 0.7}),
        ("linear", {}),
        ("dare_linear", {"density": 0.6}),
        ("breadcrumbs", {"density": 0.8, "gamma": 0.05}),
        ("nuslerp", {}),
    ],
)
def test_weights_of_every_kind_of_method(parents: dict[str, Path], method: str, shared: dict[str, Any]) -> None:
    wanted = [Direction("weight", 0), Direction("weight", 1)]
    weights, step = (0.45, 0.3), 0.02
    _, table = collected(parents, document(parents, method, weights, **shared), wanted)
    for model in (0, 1):
        moved = [tuple(weight + sign * step * (i == model) for i, weight in enumerate(weights)) for sign in (-1, 1)]
        low, high = (loss_at(parents, document(parents, method, each, **shared)) for each in moved)  # type: ignore[arg-type]
        expected = (high - low) / (2 * step)
        assert table[:, model].sum() == pytest.approx(expected, rel=0.05, abs=2e-4), (method, model)


def test_each_tensor_has_a_row_of_its_own(parents: dict[str, Path]) -> None:
    """Autograd through the same sum gives the same numbers, tensor by tensor."""
    from safetensors.torch import load_file

    recipe = document(parents, "task_arithmetic", (0.4, -0.2))
    plan, table = collected(parents, recipe, [Direction("weight", 0), Direction("weight", 1)])
    base, one, two = (load_file(parents[name] / "model.safetensors") for name in ("base", "one", "two"))
    parsed = parse_recipe(recipe)
    live = LiveModel(Parents(parsed.models))
    live.apply(make_plan(parsed, live.parents))
    weights = {name: torch.tensor([0.4, -0.2], requires_grad=True) for name in base}
    merged = {n: base[n] + weights[n][0] * (one[n] - base[n]) + weights[n][1] * (two[n] - base[n]) for n in base}
    loss = torch.func.functional_call(
        live.model, merged, (), {"input_ids": IDS, "labels": IDS, "use_cache": False}
    ).loss
    loss.backward()
    for tensor, row in zip(plan.tensors, table, strict=True):
        expected = weights[tensor.name].grad
        assert row == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-6), tensor.name


def test_slerp_by_t(parents: dict[str, Path]) -> None:
    def recipe(t: float) -> dict[str, Any]:
        found = document(parents, "slerp", (0, 0), t=t)
        return found | {"models": [{"model": str(parents["one"])}]}

    _, table = collected(parents, recipe(0.4), [Direction("t", None)])
    expected = (loss_at(parents, recipe(0.42)) - loss_at(parents, recipe(0.38))) / 0.04
    assert table.sum() == pytest.approx(expected, rel=0.03, abs=1e-4)


def test_passes_add_up_and_the_model_scores_on(parents: dict[str, Path]) -> None:
    parsed = parse_recipe(document(parents, "task_arithmetic", (0.4, 0.1)))
    live = LiveModel(Parents(parsed.models))
    plan = make_plan(parsed, live.parents)
    live.apply(plan)
    with torch.inference_mode():
        before = loss_of(live.model)
    with collected_gradients(live, plan, [Direction("weight", 0)]) as table:
        loss_of(live.model).backward()
        once = table.copy()
        loss_of(live.model).backward()
    assert table == pytest.approx(2 * once)
    with torch.inference_mode():
        assert torch.equal(loss_of(live.model), before)


def test_a_parameter_that_the_method_lacks_has_no_slope(parents: dict[str, Path]) -> None:
    parsed = parse_recipe(document(parents, "task_arithmetic", (0.4, 0.1)))
    live = LiveModel(Parents(parsed.models))
    plan = make_plan(parsed, live.parents)
    live.apply(plan)
    with collected_gradients(live, plan, [Direction("t", None)]) as table:
        assert not loss_of(live.model).requires_grad
    assert not table.any()
