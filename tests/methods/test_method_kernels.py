"""The compiled kernels give the bytes that torch gives, so that it never matters which of the two ran."""

import re
from importlib import import_module
from typing import Any

import pytest
import torch
from merge_cases import METHODS, case

from evomerge.methods import Statistics, use_kernels
from evomerge.methods.kernels import cpu
from evomerge.methods.statistics import select
from evomerge.testing.methods import MergeCase

SIZE = 70_001
WITH_KERNEL = [
    *("linear", "slerp", "nuslerp", "multislerp", "karcher", "task_arithmetic", "model_stock", "passthrough"),
    *("ties", "dare_ties", "dare_linear", "breadcrumbs", "breadcrumbs_ties"),
]


pytestmark = pytest.mark.usefixtures("compiled")


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def example(name: str, dtype: torch.dtype, variant: int) -> MergeCase:
    generator = torch.Generator().manual_seed(variant)
    method = METHODS[name]
    count = method.inputs[1] or 3
    base = torch.randn(SIZE, generator=generator).to(dtype)
    models = [(base.float() + 0.05 * torch.randn(SIZE, generator=generator)).to(dtype) for _ in range(count)]
    models[0][::7] = base[::7]  # deltas of exactly 0
    known = {p.name for p in method.parameters}
    own = [
        {"weight": (-0.3, 0.7, 0.45)[i] if variant else 0.5, "density": (0.5, 0.123, 1.0)[i], "gamma": 0.01 * i}
        for i in range(count)
    ]
    own = [{key: value for key, value in each.items() if key in known} for each in own]
    shared = {"t": 0.3, "lambda": (1.0, 0.7)[variant], "normalize": bool(variant), "rescale": bool(variant)}
    if name == "linear":
        shared["normalize"] = True
    return case(
        name,
        models,
        base if method.base == "required" else None,
        own,
        {v.name: v.options[-variant] for v in method.variants},
        **{key: value for key, value in shared.items() if key in known},
    )


@pytest.mark.parametrize("variant", [0, 1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", WITH_KERNEL)
def test_same_bytes_as_torch(name: str, dtype: torch.dtype, variant: int) -> None:
    merge = example(name, dtype, variant)
    gain = (1.0, 0.7)[variant]
    found = merge.run(gain=gain)
    with use_kernels("never"):
        assert torch.equal(bits(found), bits(merge.run(gain=gain)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("based", [True, False])
def test_the_same_inner_products(based: bool, dtype: torch.dtype) -> None:
    merge = example("task_arithmetic" if based else "linear", dtype, 1)
    gradient = torch.randn(SIZE, generator=torch.Generator().manual_seed(5)).to(dtype)
    found = cpu.inner_products(gradient, merge.models, merge.base)
    with use_kernels("never"):
        assert cpu.inner_products(gradient, merge.models, merge.base) == found
    origin = torch.zeros(SIZE) if merge.base is None else merge.base
    exact = [float(gradient.double() @ (model.double() - origin.double())) for model in merge.models]
    assert found[0] == pytest.approx(exact, rel=1e-5, abs=1e-3)
    assert found[1] == pytest.approx(float(gradient.double() @ origin.double()), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("weights", [(1.4, 1.3, 1.5), (-2.0, 3.0, 0.0), (40.0, -39.0, 0.5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_large_coefficients_add_up_task_vectors(dtype: torch.dtype, weights: tuple[float, ...]) -> None:
    """As tensors of size 100 with differences of 1e-3: the sum of tensors would lose the differences."""
    generator = torch.Generator().manual_seed(0)
    base = (100 + torch.randn(SIZE, generator=generator)).to(dtype)
    models = [(base.float() + 0.001 * torch.randn(SIZE, generator=generator)).to(dtype) for _ in weights]
    merge = case("task_arithmetic", models, base, [{"weight": weight} for weight in weights])
    for gain in (1.0, 0.7):
        found = merge.run(gain=gain)
        with use_kernels("never"):
            assert torch.equal(bits(found), bits(merge.run(gain=gain)))
    exact = base.double() + sum(
        weight * (model.double() - base.double()) for weight, model in zip(weights, models, strict=True)
    )
    assert float((merge.run().double() - exact).abs().max()) <= (0.5 if dtype == torch.bfloat16 else 2e-5)


@pytest.mark.parametrize(
    ("count", "name"),
    [(1, "dare_linear"), (5, "ties"), (5, "breadcrumbs_ties"), (11, "dare_linear"), (11, "breadcrumbs_ties")],
)
def test_any_number_of_models(count: int, name: str) -> None:
    """Few are merged in registers, more by groups, the last of which is filled up with models that have no vote."""
    generator = torch.Generator().manual_seed(count)
    base = torch.randn(5000, generator=generator).bfloat16()
    models = [(base.float() + 0.05 * torch.randn(5000, generator=generator)).bfloat16() for _ in range(count)]
    models[-1] = models[-1].float() if count == 11 else models[-1]  # inputs of several kinds
    own = [{"weight": 0.1 * (i - 3.5), "density": 1 - i / 20} for i in range(count)]
    merge = case(name, models, base, own, **({"normalize": True} if name == "ties" else {}))
    found = merge.run()
    with use_kernels("never"):
        assert torch.equal(bits(found), bits(merge.run()))


@pytest.mark.parametrize("name", ["ties", "dare_ties", "breadcrumbs"])
def test_a_tensor_too_large_for_one_call_is_merged_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = example(name, torch.bfloat16, 1)
    monkeypatch.setattr("evomerge.methods.kernels.cpu._dispatch_sparse.PIECE_ELEMENTS", 1 << 13)
    found = merge.run()
    with use_kernels("never"):
        assert torch.equal(bits(found), bits(merge.run()))


@pytest.mark.parametrize("use", ["always", "never"])
@pytest.mark.parametrize("name", ["ties", "dare_ties", "dare_linear", "breadcrumbs_ties", "della"])
def test_factors_beyond_float32_give_a_result_that_is_not_finite(name: str, use: Any) -> None:
    merge = example(name, torch.float32, 0)
    own = [{"weight": 3e38, "density": 0.5}] * 3
    merge = case(name, merge.models, merge.base, own, **{"lambda": 1e30, "normalize": False, "rescale": True})
    with use_kernels(use):
        assert not merge.attempt()[1]


@pytest.mark.parametrize("several", [False, True])
def test_the_sparse_kernel_is_made_of_vector_instructions(several: bool) -> None:
    """With one model more in a group, or one call that is not inlined, LLVM would work element by element."""
    import numba
    import numpy as np

    code = import_module("evomerge.methods.kernels.cpu._sparse")
    groups, models = 1 + several, code.MODELS
    weights = np.zeros((1 + models, 4096), np.uint16)
    integers = np.full((groups, 6, models), weights.ctypes.data, np.int64)
    kernels = [code._go_on, code._end] if several else [code._at_once]
    fresh = [numba.njit(kernel.py_func) for kernel in kernels]  # those in use may come from a file, without their text
    flags, scales, out = (None, True, None, True, True, True), (2.0, 0.5, 0.7), np.empty(code.SPAN, np.float32)
    reals, last = np.ones((groups, 5, models)), groups - 1
    group = numba.njit(lambda like, i, r, g: code._group(like, i, r, g))(
        ((0,) * models, (0.0,) * models), integers.ctypes.data, reals.ctypes.data, last
    )
    assert group[0][0] == (weights.ctypes.data,) * models and group[3][1] == (1.0,) * models
    sums = np.zeros((5, code.SPAN), np.float32)
    if several:
        fresh[0](0, 2048, weights.ctypes.data, group, flags, sums)
        fresh[1](2048, weights.ctypes.data, flags, scales, sums, out)
    else:
        fresh[0](0, 2048, weights.ctypes.data, group, flags, scales, out)
    for kernel in fresh:
        (text,) = kernel.inspect_llvm().values()
        assert re.search(r"fmul <\d+ x float>", text)


def test_kernels_notice_what_is_not_finite() -> None:
    for name in ("linear", "ties", "dare_linear"):
        merge = example(name, torch.bfloat16, 0)
        merge.models[1][12345] = float("nan") if name != "linear" else float("inf")
        merge = case(name, merge.models, merge.base, [{"weight": 1.0}] * 3)
        out, finite = merge.attempt()
        assert not finite and not bool(torch.isfinite(out).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", [1, 5, 1000, 16_384, 16_385, 300_000])
def test_selection_by_sample_is_exact(size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(size)
    base = torch.randn(size, generator=generator).to(dtype)
    model = (base.float() + 0.01 * torch.randn(size, generator=generator)).to(dtype)
    delta = (model.float() - base.float()).abs()
    for count in sorted({1, max(1, size // 1000), max(1, size // 3), max(1, size - 1), size}):
        cut = Statistics([model], base).cut(0, count)
        assert cut == select(lambda start, end: delta[start:end], size, count)


def test_selection_among_few_values() -> None:
    """Deltas of one unit in the last place, as a gentle fine-tune in bf16 leaves them: nearly all are ties."""
    generator = torch.Generator().manual_seed(0)
    base = torch.zeros(200_000)
    model = torch.randint(-2, 3, (200_000,), generator=generator).float() * 2.0**-10
    for count in (1000, 50_000, 80_000, 100_000, 150_000, 199_999):
        cut = Statistics([model], base).cut(0, count)
        assert cut == select(lambda start, end: model[start:end].abs(), len(model), count)


@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("size", [1, 511, 512, 70_001, (1 << 20) + 1])
def test_gram_matrices_are_the_same(size: int, based: bool) -> None:
    tensors = [torch.randn(size, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    inputs = (tensors[1:], tensors[0]) if based else (tensors, None)
    found = Statistics(*inputs).gram()
    with use_kernels("never"):
        assert torch.equal(found, Statistics(*inputs).gram())
    rows = torch.stack(tensors).double()
    if based:
        rows[1:] -= rows[0].clone()
    torch.testing.assert_close(found, rows @ rows.T)


def test_selection_among_many_values_and_many_ties() -> None:
    base = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).mul(0.02).bfloat16()
    noise = torch.randn(400_000, generator=torch.Generator().manual_seed(1)).mul(0.0005)
    model = (base.float() + noise).bfloat16()
    delta = (model.float() - base.float()).abs()
    for count in range(1000, 400_000, 23_456):
        found = Statistics([model], base).cut(0, count)
        assert found == select(lambda start, end: delta[start:end], len(delta), count)


@pytest.mark.parametrize("density", [0.5, 0.123])
def test_masked_norms_are_the_same(density: float) -> None:
    merge = example("dare_linear", torch.bfloat16, 0)
    found = Statistics(merge.models, merge.base).random(0, density, (123, 456))
    with use_kernels("never"):
        assert found == Statistics(merge.models, merge.base).random(0, density, (123, 456))


def test_every_half_is_read_and_written_as_torch_does() -> None:
    """All 65536 patterns of float16, and float32 values on both sides of every rounding border."""
    half = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    half = half[half.isfinite()]
    code = cpu.kernels([half])
    single = half.float()
    beside = torch.cat([torch.nextafter(single, single.new_tensor(to)) for to in (-1e9, 1e9)])
    between = (single[1:] + single[:-1]) / 2
    for source, target in (
        (half, torch.float32),
        (single, torch.float16),
        (beside, torch.float16),
        (between, torch.float16),
    ):
        out = torch.empty(source.shape, dtype=target)
        where = (*cpu.addresses([source]), torch.ones(1).numpy(), *cpu.address(out))
        code.combine(*where, out.numel(), 1.0)
        assert torch.equal(bits(out), bits(source.to(target)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["ties", "dare_ties", "dare_linear", "breadcrumbs", "breadcrumbs_ties", "della"])
@pytest.mark.parametrize("use", ["always", "never"])
def test_damage_does_not_vanish_in_a_mask(name: str, bad: float, use: Any) -> None:
    """Wherever the one bad element lies, kept or left out, the result is not finite."""
    known = {p.name for p in METHODS[name].parameters}
    own = {key: value for key, value in {"weight": 1.0, "density": 0.3, "gamma": 0.2}.items() if key in known}
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(40, 50, generator=generator)
    with use_kernels(use):
        for position in range(0, 2000, 97):
            model = base + torch.randn(40, 50, generator=generator)
            model.view(-1)[position] = bad
            assert not case(name, [model], base, [own]).attempt()[1]
