"""What must hold for any weights: a lone parent is returned, equal parents too, order and blocks change nothing."""

import pytest
import torch
from merge_cases import METHODS, Case, case, random_case

from evomerge import methods
from evomerge.methods import (
    Scratch,
    Settings,
    Statistics,
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


@pytest.mark.parametrize("name", METHODS)
def test_base_as_every_model_returns_the_base(name: str) -> None:
    base, _ = parents(name)
    low, high = METHODS[name].inputs
    count = max(low, min(high or 3, 3))
    shared = {"t": 0.5} if name in ("slerp", "nearswap") else {}
    result = case(name, [base.clone()] * count, on(name, base), [{"weight": 0.4}] * count, **shared).run()
    torch.testing.assert_close(result, base, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.inputs[1] != 1])
def test_order_of_models_does_not_matter(name: str) -> None:
    for number in (6, 16):
        drawn = random_case(name, number)
        order = list(reversed(range(len(drawn.models))))
        turned = Case(
            method=drawn.method,
            models=[drawn.models[i] for i in order],
            base=drawn.base,
            merge=drawn.merge,
            parents=[drawn.parents[i] for i in order],
        )
        result = torch.empty_like(drawn.models[0])
        inputs = turned.inputs()
        named = methods.Inputs(
            models=inputs.models,
            base=inputs.base,
            tensor=inputs.tensor,
            parents=[f"parent{i}" for i in order],  # masks are addressed by name, not by place
        )
        methods.merge_into(result, drawn.method, named, turned.settings())
        torch.testing.assert_close(result, drawn.run(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", METHODS)
def test_block_size_changes_no_byte(name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(301, 257, generator=generator)
    count = METHODS[name].inputs[1] or 3
    models = [(base + 0.1 * torch.randn(301, 257, generator=generator)).to(dtype) for _ in range(count)]
    own = [{"weight": 0.3 + 0.2 * i, "density": 0.5, "gamma": 0.02, "epsilon": 0.1} for i in range(count)]
    known = {p.name for p in METHODS[name].parameters}
    own = [{key: value for key, value in each.items() if key in known} for each in own]
    shared = {"t": 0.3 if name == "slerp" else 0.05} if "t" in known else {}
    merge = case(name, models, base.to(dtype) if on(name, base) is not None else None, own, **shared)
    results = [merge.run(block=block) for block in (997, 1000, 1 << 16, 1 << 20)]
    assert all(torch.equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize("name", METHODS)
def test_statistics_and_scratch_are_reusable(name: str) -> None:
    drawn = random_case(name, 7)
    statistics = Statistics(drawn.models, drawn.base)
    scratch = Scratch(1 << 10, torch.float32, torch.device("cpu"))
    results = []
    for _ in range(2):
        statistics.bind(drawn.models, drawn.base)
        results.append(drawn.run(statistics=statistics, scratch=scratch, block=1 << 10))
        statistics.release()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], drawn.run())


def test_gain_multiplies_before_rounding() -> None:
    drawn = random_case("linear", 6)
    torch.testing.assert_close(drawn.run(gain=0.25), drawn.run() * 0.25)


def test_settings_are_hashable_and_order_free() -> None:
    a = Settings.of({"x": 1.0, "y": 2.0}, [{"w": 1.0}], {"v": "a"})
    b = Settings.of({"y": 2.0, "x": 1.0}, [{"w": 1.0}], {"v": "a"})
    assert hash(a) == hash(b)
    assert a == b
