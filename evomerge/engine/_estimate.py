"""How long a search will take to make one candidate in memory, from a short measurement."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine._build import MethodRunner
from evomerge.engine._plan_records import Origin, Plan, TensorPlan
from evomerge.engine._residency import (
    MemoryShare,
    Residency,
    Tier,
    tier_of,
    visible_devices,
)
from evomerge.methods import Inputs, Statistics

SAMPLE_ELEMENTS = 1 << 21  # of a large tensor that are merged
LARGE_TENSORS = 2  # that are sampled
REPEATS = 3  # of each measurement; the fastest counts
READ_BYTES = 32 << 20  # read once to see how fast the disk, or the way to the GPU, is
KERNEL_ELEMENTS = 1 << 20  # of all inputs; from so many on, loading the kernels pays within a few candidates


class Estimate(NamedTuple):
    """The cost of one candidate.

    Attributes:
        tier: where the parents would be.
        seconds: to make one candidate whose every tensor changed, statistics known; reading from files or main
            memory included.
    """

    tier: Tier
    seconds: float


def estimate(
    parents: Parents, plan: Plan, device: str = "cpu", share: MemoryShare | None = None, row_bytes: int = 0
) -> Estimate:
    """Merge a few stretches of the plan's tensors and scale up; takes a second or two, and little memory.

    Args:
        parents: the opened models.
        plan: a typical candidate of the search.
        device: as for `LiveModel`.
        share: as for `LiveModel`.
        row_bytes: as for `LiveModel`.

    Raises:
        MergeFailed: the plan cannot be built.
        InvalidInput: there is no such device here.
    """
    devices = visible_devices(parents, device, share, row_bytes)
    tier = tier_of(parents, devices, share, row_bytes)
    merged = sorted((tensor for tensor in plan.tensors if not tensor.copied), key=lambda tensor: tensor.info.size_bytes)
    if not merged:
        return Estimate(tier, 0.0)
    if sum(map(_elements, merged)) * len(merged[0].origins) > KERNEL_ELEMENTS:
        methods.load_kernels()
    sample = _Sample(parents, devices[0])
    arithmetic = sample.arithmetic_seconds(merged) + sample.assembly_seconds(merged)
    reading = _read_seconds(parents, merged, tier, devices[0])
    both = max(arithmetic, reading) if tier in ("pinned", "streamed") else arithmetic + reading
    return Estimate(tier, both)


class _Sample:
    """Times merges of stretches: the first rows of each input, up to SAMPLE_ELEMENTS."""

    def __init__(self, parents: Parents, device: torch.device):
        self.parents, self.device = parents, device
        self._residency = Residency("mapped", device)
        self._runner = MethodRunner(device)

    def arithmetic_seconds(self, plans: Sequence[TensorPlan]) -> float:
        """Return the seconds that merging all tensors takes: a fixed part for each, and a rate by elements.

        Args:
            plans: by ascending size.
        """
        small = _elements(plans[0]), self._merge_seconds(plans[0])
        large = [(min(SAMPLE_ELEMENTS, _elements(plan)), self._merge_seconds(plan)) for plan in plans[-LARGE_TENSORS:]]
        elements, seconds = (sum(column) for column in zip(*large, strict=True))
        rate = max(0.0, seconds - len(large) * small[1]) / max(1, elements - len(large) * small[0])
        overhead = max(0.0, small[1] - rate * small[0])
        return sum(overhead + rate * _elements(plan) for plan in plans)

    def _merge_seconds(self, plan: TensorPlan) -> float:
        """Return the seconds that merging one stretch takes, its statistics known."""
        rows = max(1, SAMPLE_ELEMENTS // max(1, _elements(plan) // max(1, plan.shape[0]))) if plan.shape else 1
        if plan.rows is not None:  # vocabularies of other sizes
            rows = min(rows, *(self.parents[origin.model].tensors[origin.tensor].shape[0] for origin in plan.origins))
        models = [self._stretch(origin, rows) for origin in plan.models]
        base = None if plan.base is None else self._stretch(plan.base, rows)
        names = [str(origin.model) for origin in plan.models]
        inputs = Inputs(models=models, base=base, tensor=plan.name, parents=names, seed=plan.seed)
        statistics = Statistics(models, base)
        out = torch.empty(models[0].shape, dtype=plan.dtype, device=self.device)

        def merge() -> None:
            self._runner.merge(plan, inputs, statistics, out)

        merge()
        return _least_seconds(merge, self.device)

    def assembly_seconds(self, plans: Sequence[TensorPlan]) -> float:
        """Return the seconds that tensors take which are in no file, such as those of an adapter."""
        origins = [(origin, plan) for plan in plans for origin in plan.origins if self._is_computed(origin)]
        if not origins:
            return 0.0
        origin, plan = max(origins, key=lambda pair: _elements(pair[1]))
        model = self.parents[origin.model]
        parts = [self._residency.tensor(stored) for stored in model.stored(origin.tensor)]
        seconds = _least_seconds(lambda: model.assemble(origin.tensor, parts), self.device, repeats=1)
        return seconds / max(1, _elements(plan)) * sum(_elements(owner) for _, owner in origins)

    def _stretch(self, origin: Origin, rows: int) -> torch.Tensor:
        """Return the first rows of a parent's tensor; of a computed one, of a stand-in."""
        model = self.parents[origin.model]
        info = model.tensors[origin.tensor]
        if self._is_computed(origin) and not model.stored(origin.tensor):
            shape = (min(rows, info.shape[0]), *info.shape[1:]) if info.shape else ()
            return torch.zeros(shape, dtype=info.dtype, device=self.device)
        whole = model.stored(origin.tensor)[0].read()
        return (whole[:rows] if whole.ndim else whole).to(self.device, info.dtype)

    def _is_computed(self, origin: Origin) -> bool:
        return self.parents[origin.model].is_computed(origin.tensor)


def _read_seconds(parents: Parents, plans: Sequence[TensorPlan], tier: Tier, device: torch.device) -> float:
    """Return the seconds in which all that the plans read reaches the device that merges it."""
    if tier == "device" or (tier == "mapped" and device.type == "cpu"):
        return 0.0
    origins = {origin for plan in plans for origin in plan.origins}
    stored = {tensor for origin in origins for tensor in parents[origin.model].stored(origin.tensor)}
    total = sum(tensor.size_bytes for tensor in stored)
    if tier == "streamed":
        largest = max(stored, key=lambda tensor: tensor.size_bytes)
        return total / disk_bytes_per_second(largest.file)
    here = torch.empty(READ_BYTES, dtype=torch.uint8, pin_memory=tier == "pinned")
    there = torch.empty(READ_BYTES, dtype=torch.uint8, device=device)
    return total / READ_BYTES * _least_seconds(lambda: there.copy_(here), device)


def disk_bytes_per_second(file: Path) -> float:
    """Return the speed at which a part of a file that is in no cache is read."""
    with file.open("rb", buffering=0) as stream:
        middle = max(0, (os.fstat(stream.fileno()).st_size - READ_BYTES) // 2)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), middle, READ_BYTES, os.POSIX_FADV_DONTNEED)
        stream.seek(middle)
        started = time.perf_counter()
        count = len(stream.read(READ_BYTES))
        return max(1, count) / max(1e-6, time.perf_counter() - started)


def _least_seconds(action: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Return the time of the fastest of a few repeats."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found)


def _elements(plan: TensorPlan) -> int:
    return plan.info.size_bytes // plan.dtype.itemsize
