"""Part of `bench_candidates.py`: candidates from parents that lie in a device's memory. Needs torch and numpy only.

The parents are made on the device: a base of a Llama's shapes (7 B parameters by default), random, in bf16, and three
near it. A candidate is one `methods.merge_into` for each tensor, as the engine does it, with its own weights and
densities; nothing waits for the device before the last tensor.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from evomerge import methods
from evomerge.methods import Inputs, Settings, Statistics

PARENTS = ("one", "two", "three")
GOALS = {"task_arithmetic": 40.0, "ties": 80.0, "dare_ties": 80.0}  # milliseconds, 7 B on an H200
METHODS = ("task_arithmetic", "slerp", "ties", "dare_ties")
CHECKED = "model.layers.0.self_attn.q_proj.weight"  # merged on the CPU as well


class Parents(NamedTuple):
    """Tensors by name: of the base, of each other parent, and where the candidate goes."""

    base: Mapping[str, torch.Tensor]
    models: tuple[Mapping[str, torch.Tensor], ...]
    out: Mapping[str, torch.Tensor]


class NoStore:
    """A store, with which the statistics of all densities are computed at once, as in a search."""

    def begin(self, known: dict[str, torch.Tensor]) -> None:
        """Nothing to claim."""

    def end(self, known: dict[str, torch.Tensor], changed: bool) -> None:
        """Nothing to keep."""


def llama_shapes(layers: int, hidden: int, vocabulary: int = 32000) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a Llama: 32 layers, 4096 wide are 6.74 B parameters."""
    inner = hidden * 43 // 16
    block = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    block |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes |= {f"model.layers.{layer}.{name}.weight": (hidden,) for name in ("norm1", "norm2")}
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def make_parents(shapes: Mapping[str, tuple[int, ...]], device: str) -> Parents:
    """Fill the device with random parents: weights of spread 0.02, task vectors of spread 0.002."""
    generator = torch.Generator(device).manual_seed(0)

    def noise(shape: tuple[int, ...], scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).mul_(scale)

    base = {name: noise(shape, 0.02).bfloat16() for name, shape in shapes.items()}
    models = tuple(
        {name: noise(shape, 0.002).add_(base[name]).bfloat16() for name, shape in shapes.items()} for _ in PARENTS
    )
    return Parents(base, models, {name: torch.empty_like(tensor) for name, tensor in base.items()})


def settings_of(name: str, number: int) -> Settings:
    """Return the settings of candidate `number`: other weights and densities than those before."""
    method = methods.get(name)
    shared = {p.name: p.default for p in method.parameters if p.per == "merge"}
    if "t" in shared:
        shared["t"] = 0.3 + number / 1000
    own = []
    for parent in range(method.inputs[1] or len(PARENTS)):
        genes = {"weight": 0.3 + (3 * number + parent) / 1000, "density": (400 + 17 * number + 150 * parent) / 1024}
        defaults = {p.name: p.default for p in method.parameters if p.per == "parent"}
        own.append({key: genes.get(key, default) for key, default in defaults.items()})
    return Settings.of(shared, own)


def inputs_of(parents: Parents, method: str, tensor: str, device: str | None = None) -> Inputs:
    """Return what a method merges into one tensor, brought to another device if one is given."""
    models = parents.models[: methods.get(method).inputs[1] or len(PARENTS)]
    every = [(tensors[tensor] if device is None else tensors[tensor].to(device)) for tensors in (parents.base, *models)]
    return Inputs(models=every[1:], base=every[0], tensor=tensor, parents=PARENTS[: len(models)])


class Candidates:
    """Makes one candidate after another by one method; statistics stay."""

    def __init__(self, parents: Parents, method: str):
        self.parents, self.method = parents, method
        self._known: dict[str, Statistics] = {}

    def make(self, number: int) -> list[torch.Tensor | bool]:
        """Send all merges of candidate `number`; return for each tensor whether it is finite."""
        settings, method = settings_of(self.method, number), methods.get(self.method)
        finite = []
        for name, out in self.parents.out.items():
            inputs = inputs_of(self.parents, self.method, name)
            known = self._known.get(name)
            if known is None:
                known = self._known[name] = Statistics(inputs.models, inputs.base, store=NoStore())
            known.bind(inputs.models, inputs.base)
            finite.append(methods.merge_into(out, method, inputs, settings, statistics=known))
            known.release()
        return finite

    def differing(self, number: int) -> float:
        """Return the share of one tensor's elements that have other bits than the CPU gives them."""
        inputs = inputs_of(self.parents, self.method, CHECKED, "cpu")
        expected = torch.empty_like(inputs.models[0])
        methods.merge_into(expected, methods.get(self.method), inputs, settings_of(self.method, number))
        found = self.parents.out[CHECKED].cpu()
        return float((found.view(torch.int16) != expected.view(torch.int16)).double().mean())


def seconds_of(action: Callable[[], Any], device: str) -> tuple[float, float, Any]:
    """Return the seconds of an action by the device's clock, those until it was sent there, and its result."""
    if torch.device(device).type != "cuda":
        started = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - started
        return seconds, seconds, result
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    started = time.perf_counter()
    result = action()
    sent = time.perf_counter() - started
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000, sent, result


def copy_rate(parents: Parents, device: str, repeats: int) -> float:
    """Return the bytes per second, read and written, of copying the base over the candidate."""

    def copy() -> None:
        for name, out in parents.out.items():
            out.copy_(parents.base[name])

    copy()
    seconds = statistics.median(seconds_of(copy, device)[0] for _ in range(repeats))
    return 2 * sum(out.nbytes for out in parents.out.values()) / seconds


def time_method(parents: Parents, method: str, device: str, repeats: int, rate: float) -> dict[str, Any]:
    """Time one method's candidates: the first, which works out the statistics, and the median of later ones."""
    candidates = Candidates(parents, method)
    cold, _, _ = seconds_of(lambda: candidates.make(0), device)
    candidates.make(1)
    times = []
    for number in range(2, 2 + repeats):
        seconds, sent, finite = seconds_of(lambda number=number: candidates.make(number), device)
        assert all(map(bool, finite)), f"{method}: a merge is not finite"
        times.append((seconds, sent))
    seconds, sent = (statistics.median(column) for column in zip(*times, strict=True))
    size = sum(out.nbytes for out in parents.out.values())
    inputs = 1 + (methods.get(method).inputs[1] or len(PARENTS))
    return {
        "method": method,
        "ms": 1000 * seconds,
        "goal ms": GOALS.get(method),
        "ms to send": 1000 * sent,
        "TB/s": (inputs + 1) * size / seconds / 1e12,
        "of copy rate": (inputs + 1) * size / seconds / rate,
        "first s": cold,
        "differs from CPU": candidates.differing(1 + repeats),
    }


def resident(
    device: str = "cuda",
    layers: int = 32,
    hidden: int = 4096,
    vocabulary: int = 32000,
    repeats: int = 9,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return facts of the device and one row for each method."""
    with torch.no_grad():
        parents = make_parents(llama_shapes(layers, hidden, vocabulary), device)
        rate = copy_rate(parents, device, repeats)
        rows = [time_method(parents, method, device, repeats, rate) for method in only or METHODS]
    where = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "kernels": kernels_on(where),
        "parameters": sum(tensor.numel() for tensor in parents.base.values()),
        "copy TB/s": rate / 1e12,
        "rows": rows,
    }


def kernels_on(device: torch.device) -> str:
    """Return what merged on a device."""
    return methods.kernels_loaded(device)
