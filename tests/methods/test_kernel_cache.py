"""A damaged, full or missing store of machine code costs a compilation; values of a search compile nothing new."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evomerge import methods
from evomerge.methods import Inputs, Settings, merge_into, use_kernels
from tests.forked import Forked, program

# Prints a digest of a TIES merge and how many kernels were compiled in this process.
MERGE = """
import hashlib, sys, torch
from numba.core import event
from evomerge import methods
from evomerge.methods import Inputs, Settings, merge_into, use_kernels
from tests.forked import Forked, program

class Counter(event.Listener):
    count = 0
    def on_start(self, compiled): Counter.count += 1
    def on_end(self, compiled): ...

event.register("numba:compile", Counter())
generator = torch.Generator().manual_seed(0)
tensors = [torch.randn(5000, generator=generator).bfloat16() for _ in range(3)]
out = torch.empty_like(tensors[0])
settings = Settings.of(
    {"lambda": 1.0, "normalize": False}, [{"weight": 0.5}, {"weight": 0.5}]
)
with use_kernels("always"):
    merge_into(out, methods.get("task_arithmetic"), Inputs(models=tensors[1:], base=tensors[0]), settings)
assert methods.kernels_loaded(out.device) == "numba"
print(hashlib.sha256(out.view(torch.int16).numpy().tobytes()).hexdigest(), Counter.count)
"""


# The same of a kernel that takes a tenth of the time to compile.
KERNEL = """
import sys
from numba.core import event
sys.path.insert(0, sys.argv[1])

class Counter(event.Listener):
    count = 0
    def on_start(self, compiled): Counter.count += 1
    def on_end(self, compiled): ...

event.register("numba:compile", Counter())
from small_kernel import thrice
print(thrice(7), Counter.count)
"""
SMALL = """
from evomerge.methods.kernels.cpu._memory import compiled

@compiled
def thrice(number):
    return 3 * number
"""


def small(cache: Path, folder: Path) -> tuple[str, int]:
    """Call a small kernel in a process of its own; return the result and the number of compilations."""
    environment = {"NUMBA_CACHE_DIR": str(cache)}
    exit_code, output, errors = Forked(program, KERNEL, (str(folder),), environment=environment).finish()
    assert (exit_code, errors) == (0, "")
    result, count = output.split()
    return result, int(count)


def merged(cache: Path, code: str = MERGE) -> tuple[str, int]:
    """Merge in a process of its own; return the result's digest and the number of compilations."""
    exit_code, output, errors = Forked(program, code, environment={"NUMBA_CACHE_DIR": str(cache)}).finish()
    assert (exit_code, errors) == (0, "")
    digest, count = output.split()
    return digest, int(count)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def vanish(file: Path) -> None:
    file.unlink()


@pytest.mark.slow
def test_a_damaged_store_costs_a_compilation(tmp_path: Path) -> None:
    digest, first = merged(tmp_path)
    assert first > 0
    assert merged(tmp_path) == (digest, 0)
    for file in tmp_path.rglob("*.nbc"):
        truncate(file)
    assert merged(tmp_path) == (digest, first)


@pytest.mark.slow
def test_whatever_is_wrong_with_a_store_costs_a_compilation(tmp_path: Path) -> None:
    (tmp_path / "small_kernel.py").write_text(SMALL)
    cache = tmp_path / "cache"
    assert small(cache, tmp_path) == ("21", 1)
    for fault, kind in ((truncate, "*.nbc"), (flip_a_bit, "*.nbi"), (empty, "*.nbi"), (vanish, "*.nbc")):
        damaged = list(cache.rglob(kind))
        for file in damaged:
            fault(file)
        assert damaged and small(cache, tmp_path) == ("21", 1), (fault.__name__, kind)
    assert small(cache, tmp_path) == ("21", 0), "it is repaired"


FULL = """
import builtins, os
real = builtins.open
def full(file, mode="r", *rest, **more):
    if "w" in mode and ".nb" in str(file):
        raise OSError(28, "No space left on device")
    return real(file, mode, *rest, **more)
builtins.open = full
"""


@pytest.mark.slow
def test_a_full_disk_costs_a_compilation(tmp_path: Path) -> None:
    digest, first = merged(tmp_path / "good")
    assert merged(tmp_path / "full", FULL + MERGE) == (digest, first)
    assert not list((tmp_path / "full").rglob("*.nbc"))


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[tuple[object, ...]]]:
    """Return a function that gives the compiled versions that the sparse kernel was called for."""
    from numba import typeof

    import evomerge.methods.kernels.cpu as cpu

    seen: set[tuple[object, ...]] = set()
    found = cpu.kernels

    def recording(tensors: list[torch.Tensor]) -> object:
        code = found(tensors)
        if code is None:
            return None

        def sparse(*arguments: object) -> object:
            seen.add(tuple(typeof(argument) for argument in arguments))
            return code.sparse(*arguments)

        return code._replace(sparse=sparse)

    monkeypatch.setattr("evomerge.methods.kernels.cpu._dispatch.kernels", recording)
    # Which version serves depends on those that the process has used: here it is a fresh process.
    monkeypatch.setattr("evomerge.methods.kernels.cpu._dispatch_sparse._versions", set())
    return lambda: seen


@pytest.mark.parametrize("method", ["ties", "dare_ties", "dare_linear", "breadcrumbs_ties"])
def test_values_of_a_search_compile_nothing_new(method: str, signatures: Callable[[], set[tuple[object, ...]]]) -> None:
    """Weights and densities of 0 and 1, which leave out models, masks and factors, need no version of their own."""
    generator = torch.Generator().manual_seed(1)
    base, *models = (torch.randn(300, generator=generator).bfloat16() for _ in range(4))
    shared = {"lambda": 0.7, "normalize": True, "rescale": False}
    extra = {"gamma": 0.1} if method == "breadcrumbs_ties" else {}
    cases = [[(0.5, 0.5)] * 3, [(0.0, 0.5), (0.5, 0.5), (0.3, 0.2)], [(0.0, 0.4), (0.0, 0.3), (0.7, 0.6)]]
    cases += [[(0.5, 1.0), (0.2, 0.0), (1.0, 0.5)], [(1.0, 1.0), (0.3, 1.0), (0.4, 1.0)]]
    for case in cases:
        parents = [{"weight": weight, "density": density, **extra} for weight, density in case]
        settings = Settings.of(shared, parents)
        inputs = Inputs(models=models, base=base, tensor="x", parents=["a", "b", "c"])
        results = []
        for use in ("always", "never"):
            out = torch.empty_like(base)
            with use_kernels(use):  # type: ignore[arg-type]
                merge_into(out, methods.get(method), inputs, settings)
            results.append(out)
        assert torch.equal(results[0].view(torch.int16), results[1].view(torch.int16)), case
    settings = Settings.of({**shared, "lambda": 1.0}, [{"weight": 0.5, "density": 0.5, **extra}] * 3)
    with use_kernels("always"):
        merge_into(torch.empty_like(base), methods.get(method), inputs, settings)
    assert len(signatures()) == 1, [[str(part) for part in found] for found in signatures()]
