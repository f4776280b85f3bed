"""The memory of backward passes: bounded, given back, and with checkpoints smaller for the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, Plan, collected_gradients, make_plan
from evomerge.methods import Direction
from evomerge.recipe import parse_recipe
from evomerge.testing.pico import write_pico

IDS = torch.arange(48).reshape(4, 12) % 40
DIRECTIONS = [Direction("weight", 0)]


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveModel, Plan]:
    """A live model of a base and a fine-tune."""
    root = tmp_path_factory.mktemp("activations")
    base = write_pico(root / "base", 0)
    one = write_pico(root / "one", 1, near=base)
    recipe = parse_recipe(
        {
            "merge_method": "task_arithmetic",
            "base_model": str(base),
            "models": [{"model": str(one), "parameters": {"weight": 0.4}}],
        }
    )
    opened = Parents(recipe.models)
    live, plan = LiveModel(opened), make_plan(recipe, opened)
    live.apply(plan)
    return live, plan


def table_of(merged: tuple[LiveModel, Plan], *, checkpoints: bool = False, passes: int = 1) -> Any:
    live, plan = merged
    with collected_gradients(live, plan, DIRECTIONS, checkpoints=checkpoints) as table:
        for _ in range(passes):
            live.model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    return table


def limit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(LiveModel, "activation_limit_bytes", size)


def smallest_limit(merged: tuple[LiveModel, Plan], monkeypatch: pytest.MonkeyPatch, *, checkpoints: bool) -> int:
    """Return the lowest power of two of bytes that one pass does with."""
    for power in range(4, 40):
        limit(monkeypatch, 1 << power)
        try:
            table_of(merged, checkpoints=checkpoints)
        except MemoryError:
            continue
        return 1 << power
    raise AssertionError("no limit is enough")


def test_checkpoints_change_no_number(merged: tuple[LiveModel, Plan]) -> None:
    table = table_of(merged)
    assert np.abs(table).max() > 0
    assert np.array_equal(table, table_of(merged, checkpoints=True))


def test_checkpoints_take_less_memory(merged: tuple[LiveModel, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = smallest_limit(merged, monkeypatch, checkpoints=False)
    assert smallest_limit(merged, monkeypatch, checkpoints=True) <= plain // 2


def test_what_a_pass_kept_is_given_back(merged: tuple[LiveModel, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, smallest_limit(merged, monkeypatch, checkpoints=False))
    table_of(merged, passes=8)


@pytest.mark.parametrize("checkpoints", [False, True])
def test_the_model_is_as_before_when_memory_does_not_suffice(
    merged: tuple[LiveModel, Plan], monkeypatch: pytest.MonkeyPatch, checkpoints: bool
) -> None:
    live, _ = merged
    limit(monkeypatch, 16)
    with pytest.raises(MemoryError, match="the activations of a backward pass take more than 16 bytes"):
        table_of(merged, checkpoints=checkpoints)
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in live.model.parameters())
    assert all("forward" not in vars(module) for module in live.model.modules())


def test_blocks_run_again_as_they_ran_under_another_attention(merged: tuple[LiveModel, Plan]) -> None:
    class Split(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            return found.exp().log() if func is scaled_dot_product_attention else found

    plain = table_of(merged)
    with Split():
        assert np.allclose(table_of(merged, checkpoints=True), plain, rtol=1e-3)
