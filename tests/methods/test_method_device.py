"""What runs on a GPU, as far as a CPU can tell: kernels in Triton's interpreter, reductions on ordinary tensors."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from merge_cases import case

from evomerge.methods import BLOCK_ELEMENTS, DEVICE_BLOCK_ELEMENTS, Statistics, block_size
from evomerge.methods.core import ranks_of
from evomerge.methods.kernels import gpu
from evomerge.methods.statistics import chunks, select_all, tie_end

GPU = "evomerge.methods.kernels.gpu"


@pytest.fixture
def as_device(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let tensors in main memory pass for a GPU's."""
    monkeypatch.setattr(f"{GPU}._dispatch.DEVICES", ("cpu",))
    monkeypatch.setattr(f"{GPU}._dispatch._trials", {})
    monkeypatch.setattr(f"{GPU}._statistics.serves", lambda values, sorting=False: values.dtype != torch.float64)
    monkeypatch.setattr(f"{GPU}._statistics.PIECE_ELEMENTS", 5000)
    return monkeypatch


needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed; torch's CUDA builds bring it along"
)


@needs_triton
def test_kernels_have_the_bits_of_torch() -> None:
    script = Path(__file__).with_name("interpreted_merges.py")
    run = subprocess.run(
        [sys.executable, str(script)], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]


@needs_triton
@pytest.mark.parametrize(("elect", "divide"), [(True, "DISJOINT"), (False, "TOTAL")])
@pytest.mark.parametrize("what", ["CUT", "WINDOW", "RANDOM"])
def test_kernels_compile_to_separate_roundings(what: str, elect: bool, divide: str) -> None:
    """For a Hopper GPU, which need not be there: 16-byte loads, rounded quotients, no fused multiply-add."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    code = import_module(f"{GPU}._triton")
    tensor, number, count = "*bf16", "fp32", 3
    options = {"WHAT": getattr(code, what).value, "ELECT": elect, "DIVIDE": getattr(code, divide).value, "BLOCK": 1024}
    signature: dict[str, Any] = {
        "out": tensor,
        "finite": "*i8",
        "size": "i32",
        "base": tensor,
        "models": (tensor,) * count,
        "numbers": ((number,) * {"CUT": 3, "WINDOW": 6, "RANDOM": 5}[what],) * count,
        **dict.fromkeys(("sign_weights", "post_scales", "weights"), (number,) * count),
        **dict.fromkeys(("divisor", "scale", "gain"), number),
        **dict.fromkeys(options, "constexpr"),
    }
    names = list(signature)
    aligned = [(names.index(name),) for name in ("out", "size", "base")]
    aligned += [(names.index("models"), i) for i in range(count)]
    source = ASTSource(
        code.sparse,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in options.items()},
        attrs={place: [["tt.divisibility", 16]] for place in aligned},
    )
    text = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    assert text.count("ld.global.v4.b32") == 1 + count
    assert "fma.rn.f32" not in text and "div.full" not in text and "cvt.rn.bf16x2.f32" in text


def ties() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4000, generator=generator)
    models = [base + 0.1 * torch.randn(4000, generator=generator) for _ in range(2)]
    merge = case("ties", models, base, [{"weight": 0.5, "density": 0.5}] * 2)
    inputs = merge.inputs()
    return {"inputs": inputs, "terms": merge.method.coefficients(inputs, merge.settings(), Statistics(models, base))}


def test_without_triton_torch_merges(as_device: pytest.MonkeyPatch) -> None:
    as_device.setitem(sys.modules, "triton", None)
    as_device.delitem(sys.modules, f"{GPU}._triton", raising=False)
    assert gpu.sparse(torch.empty(4000), gain=1.0, **ties()) is None


class Idle:
    """A kernel that does nothing, or raises."""

    def __init__(self, error: Exception | None = None):
        self._error = error

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            if self._error:
                raise self._error

        return launch


@pytest.mark.parametrize("error", [None, RuntimeError("no C compiler")])
def test_kernels_that_fail_their_trial_are_not_used(error: Exception | None, as_device: pytest.MonkeyPatch) -> None:
    names = {"CUT": 0, "WINDOW": 1, "RANDOM": 2, "UNDIVIDED": 0, "TOTAL": 1, "DISJOINT": 2}
    code = SimpleNamespace(combine=Idle(error), sparse=Idle(error), **names)
    as_device.setitem(sys.modules, f"{GPU}._triton", code)
    with pytest.warns(UserWarning, match="C compiler" if error else "differs"):
        assert gpu.sparse(torch.empty(4000), gain=1.0, **ties()) is None
    assert gpu.sparse(torch.empty(4000), gain=1.0, **ties()) is None  # and no second trial


def test_only_what_kernels_can_read_is_theirs(as_device: pytest.MonkeyPatch) -> None:
    as_device.setattr(f"{GPU}._dispatch._load", lambda device: pytest.fail("asked for the kernels"))
    doubles = ties()
    doubles["inputs"].models[0] = doubles["inputs"].models[0].double()
    assert gpu.sparse(torch.empty(4000), gain=1.0, **doubles) is None
    della = case("della", [torch.randn(8, 8)] * 2, torch.zeros(8, 8), [{"weight": 1.0, "density": 0.5}] * 2)
    terms = della.method.coefficients(della.inputs(), della.settings(), Statistics(della.models, della.base))
    assert della.method.merge_compiled(torch.empty(8, 8), della.inputs(), terms, 1.0) is None


def deltas(kind: str, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    if kind == "few":
        return torch.randint(0, 3, (size,), generator=generator).float() * 2.0**-10
    base = torch.randn(size, generator=generator).mul(0.02).to(getattr(torch, kind))
    model = (base.float() + 0.002 * torch.randn(size, generator=generator)).to(base.dtype)
    values = (model.float() - base.float()).abs()
    values[::50] = 1e-40  # less than the smallest normal number
    return values


@pytest.mark.parametrize("size", [1, 7, 5000, 5001, 30_000])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "few"])
def test_selections_by_sorting_are_those_by_counting(kind: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evomerge.methods.statistics._selection.SMALL", 0)  # counting, whatever the size
    values = deltas(kind, size)
    counts = sorted({max(1, size * step // 64) for step in range(1, 65)})
    found = gpu.density_table(values, counts)
    expected = select_all(lambda start, end: values[start:end], size, counts)
    assert [row.tolist() for row in found[:3]] == list(map(list, expected))
    ends = [
        tie_end(lambda start, end: values[start:end], size, threshold, ties)
        for threshold, ties in zip(expected.thresholds, expected.ties, strict=True)
    ]
    assert found[3].tolist() == ends


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_statistics_are_those_of_a_cpu(dtype: torch.dtype, as_device: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(50, 301, generator=generator).to(dtype)
    model = (base.float() + 0.05 * torch.randn(50, 301, generator=generator)).to(dtype)

    def numbers() -> list[float]:
        known = Statistics([model], base)
        found: list[float] = []
        for density in (0.5, 0.25, 0.123):
            count = known.magnitude(0, density)
            found += [*known.cut(0, count), known.kept_l1(0, count)]
            found += known.random(0, density, (3, 4))
            found += known.ranked(0, density, ranks_of(base.shape, 0.1), (3, 4))
        return found

    there = numbers()
    as_device.setattr(f"{GPU}._statistics.serves", lambda values, sorting=False: False)
    assert there == pytest.approx(numbers(), rel=1e-12, abs=0)


@pytest.mark.parametrize("size", [1, 511, 70_001, (1 << 20) + 1, (3 << 20) + 77])
def test_chunks_are_summed_alike_one_by_one_and_together(size: int) -> None:
    values = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    sum_of_chunks = import_module("evomerge.methods.statistics._gram")._halve
    alone = [sum_of_chunks(values[start:end]) for start, end in chunks(size)]
    assert torch.equal(sum_of_chunks(values), torch.cat(alone))


def test_block_sizes() -> None:
    assert block_size(torch.device("cpu")) == BLOCK_ELEMENTS
    assert block_size(torch.device("cuda")) == DEVICE_BLOCK_ELEMENTS
