"""Tensors built by several threads of one process, given in the order of the plan: the same bytes, sooner.

The compiled kernels, torch's operations and reading pages all run without Python's lock. Each thread has a builder and
memory of its own, so a tensor is built as if it were the only one.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from evomerge.engine._build import Builder
from evomerge.engine._plan_records import TensorPlan
from evomerge.errors import InvalidInput

PROBE_BYTES = 1 << 25  # copied by each thread of a measurement, more than caches hold
PROBE_REPEATS = 3
WORTH = 1.15  # of the bandwidth of fewer threads, which more of them must reach


def thread_count(requested: int, device: torch.device) -> int:
    """Return how many threads to merge with.

    Args:
        requested: number of threads; 0 = as many as this machine's memory has bandwidth for, measured.
        device: where tensors are merged.

    Raises:
        InvalidInput: the number makes no sense.
    """
    if requested < 0:
        raise InvalidInput(f"threads: found {requested}, expected 1 or more, or 0 to have it measured")
    if device.type != "cpu":
        if requested > 1:
            raise InvalidInput(f"threads: found {requested}, but {device} merges by itself; leave threads out")
        return 1
    return requested or threads_by_bandwidth()


def threads_by_bandwidth() -> int:
    """Return the number of threads beyond which copying in memory gets hardly faster (about a tenth of a second)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    best, chosen, count = _bandwidth(1), 1, 2
    while count <= cores:
        found = _bandwidth(count)
        if found < WORTH * best:
            break
        best, chosen = found, count
        count = cores if count < cores < 2 * count else 2 * count
    return chosen


def _bandwidth(threads: int) -> float:
    """Return the bytes that so many threads copy in a second, in their best of some attempts."""
    pairs = [(np.ones(PROBE_BYTES, np.uint8), np.ones(PROBE_BYTES, np.uint8)) for _ in range(threads)]
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PROBE_REPEATS):
            started = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            seconds.append(time.perf_counter() - started)
    return threads * PROBE_BYTES / min(seconds)


class TensorMaker:
    """A builder and memory for one tensor, used again and again: fresh pages would cost more than the copy."""

    def __init__(self, builder: Builder, largest_bytes: int):
        self._builder = builder
        self._memory = torch.empty(largest_bytes, dtype=torch.uint8, device=builder.device)

    def make(self, plan: TensorPlan) -> torch.Tensor:
        """Return a planned tensor; it is valid until the next one.

        Raises:
            DegenerateModel: see `Builder.build`.
            MergeFailed: see `Builder.build`.
            ParentChanged: a parent's file changed meanwhile.
        """
        self._builder.parents.check_unchanged()  # reading behind the end of a file that became shorter is fatal
        target = self._memory[: plan.info.size_bytes].view(plan.dtype).view(plan.shape)
        with torch.no_grad():
            self._builder.build(plan, target)
            self._builder.finish()
        return target


def made_in_order(
    plans: Sequence[TensorPlan], makers: Sequence[TensorMaker]
) -> Iterator[tuple[TensorPlan, torch.Tensor]]:
    """Yield each planned tensor, valid until the next; with several makers each runs in a thread of its own.

    Args:
        plans: in the order in which they are given.
        makers: the last one only holds a finished tensor while the others go on, where there are several.

    Raises:
        EvomergeError: what `TensorMaker.make` raises, for the first tensor for which it did.
    """
    if len(makers) == 1:
        for plan in plans:
            yield plan, makers[0].make(plan)
        return
    free, pending = deque(makers), deque[tuple[TensorPlan, TensorMaker, Future[torch.Tensor]]]()
    coming = iter(plans)
    with _one_thread_each(), ThreadPoolExecutor(len(makers) - 1, thread_name_prefix="merge") as pool:
        try:
            while True:
                for maker, plan in zip(tuple(free), coming, strict=False):
                    pending.append((plan, maker, pool.submit(maker.make, plan)))
                free.clear()
                if not pending:
                    return
                plan, maker, made = pending.popleft()
                yield plan, made.result()
                free.append(maker)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep torch from starting threads of its own beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
