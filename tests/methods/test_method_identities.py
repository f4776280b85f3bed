"""What must hold for any weights: a lone parent is returned, equal parents too, order and blocks change nothing."""

import pytest
import torch
from merge_cases import METHODS, case

from evomerge.methods import (
    Settings,
)

WEIGHTED = [name for name, method in METHODS.items() if method.parameter("weight") is not None]


def parents(name: str, dtype: torch.dtype = torch.float32, count: int = 2) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(len(name))
    base = torch.randn(24, 17, generator=generator)
    models = [(base + 0.1 * torch.randn(24, 17, generator=generator)).to(dtype) for _ in range(count)]
    return base.to(dtype), models


def on(method_name: str, base: torch.Tensor) -> torch.Tensor | None:
    return base if METHODS[method_name].base == "required" else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", WEIGHTED)
def test_one_hot_weight_returns_that_parent(name: str, dtype: torch.dtype) -> None:
    base, models = parents(name, dtype)
    for chosen in (0, 1):
        weights = [{"weight": float(i == chosen)} for i in range(2)]
        assert torch.equal(case(name, models, on(name, base), weights).run(), models[chosen])


@pytest.mark.parametrize(("t", "chosen"), [(0.0, 0), (1.0, 1)])
def test_slerp_ends(t: float, chosen: int) -> None:
    base, models = parents("slerp")
    assert torch.equal(case("slerp", models[:1], base, t=t).run(), [base, models[0]][chosen])


@pytest.mark.parametrize("name", METHODS)
def test_equal_parents_return_the_parent(name: str) -> None:
    base, models = parents(name)
    low, high = METHODS[name].inputs
    count = max(low, min(high or 3, 3))
    shared = {"t": 1.0} if name in ("slerp", "nearswap") else {}
    if METHODS[name].parameter("normalize") and METHODS[name].base == "required":
        shared["normalize"] = True
    result = case(name, [models[0]] * count, on(name, base), [{"weight": 0.4}] * count, **shared).run()
    expected = models[0]
    if name == "arcee_fusion":  # takes over outliers only
        assert bool(((result == base) | (result == models[0])).all())
        return
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)


def test_settings_are_hashable_and_order_free() -> None:
    a = Settings.of({"x": 1.0, "y": 2.0}, [{"w": 1.0}], {"v": "a"})
    b = Settings.of({"y": 2.0, "x": 1.0}, [{"w": 1.0}], {"v": "a"})
    assert hash(a) == hash(b)
    assert a == b
