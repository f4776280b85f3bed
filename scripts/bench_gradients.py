"""The part of `bench_candidates.py` on gradient steps: time and memory over plain candidates on the same items.

Time is that of the process on the CPU, one thread: other work on the machine does not add to it.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_questions import CHARACTERS, write_task
from bench_resident import MODELS, large_search

from evomerge.engine import LiveModel
from evomerge.methods import Direction
from evomerge.records import Point
from evomerge.run import Job, Setup, create_executor

MOST_TIME, MOST_MEMORY = 3.5, 2.0  # over a plain candidate
CLEAR_PEAK = "5"  # makes Linux forget a process's peak of resident memory


def gradient_steps(folder: Path, items: int, repeats: int) -> list[dict[str, Any]]:
    """Compare gradient steps with plain candidates: other weights each time, the same items.

    Args:
        folder: of the parents of `bench_resident.random_parents`.
        items: four-choice questions.
        repeats: candidates of each kind; the first of each is not counted.
    """
    write_task(folder, items=items + 2, context=64, choice=32, shots=0, vocabulary=len(CHARACTERS) + 2)
    return measured(large_search(folder, "task_arithmetic", items), repeats, models=len(MODELS) - 1)


def measured(setup: Setup, repeats: int, *, models: int) -> list[dict[str, Any]]:
    """Return a row for plain candidates, gradient steps, and gradient steps with activation checkpoints."""
    executor = create_executor(setup)
    pools = {name: tuple(pools["search"]) for name, pools in setup.prepared.pools.items()}
    directions = tuple(Direction("weight", model) for model in range(models))
    gold = {objective.name: objective.weight for objective in setup.objectives}
    plain = Job(candidate=0, pool="search", document={}, items=pools)
    jobs = {"plain": plain, "gradient": replace(plain, gradient=directions, gold=gold)}
    jobs["gradient, checkpoints"] = jobs["gradient"]
    rows: list[dict[str, Any]] = []
    number = 0
    for kind, job in jobs.items():
        seconds, peaks = [], []
        with activations_bounded(kind.endswith("checkpoints")):
            for _ in range(repeats + 1):
                number += 1
                reals = tuple((0.1 + 0.07 * number + 0.01 * gene) % 1 for gene in range(setup.space.domain.reals))
                recipe = setup.space.decode(Point(reals=reals))
                forget_peak()
                started = time.process_time()
                executor.submit(replace(job, candidate=number, document=recipe))
                ((_, outcome),) = executor.wait(0.0)
                assert outcome.failure is None, outcome.failure
                assert (outcome.gradient is None) == (kind == "plain"), outcome.note
                seconds.append(time.process_time() - started)
                peaks.append(peak_bytes())
        row = {"candidate": kind, "CPU s": statistics.median(seconds[1:]), "peak GB": max(peaks[1:]) / 1e9}
        first = rows[0] if rows else row
        row |= {"time": row["CPU s"] / first["CPU s"], "goal": MOST_TIME, "memory": row["peak GB"] / first["peak GB"]}
        rows.append(row | {"its goal": MOST_MEMORY})
    executor.close()
    return rows


@contextmanager
def activations_bounded(bounded: bool) -> Iterator[None]:
    """Let the first gradient step fail for its activations, as on a machine with little memory, if `bounded`."""
    if not bounded:
        yield
        return
    known, left = LiveModel.activation_limit_bytes, [0]
    LiveModel.activation_limit_bytes = property(lambda self: left.pop() if left else None)  # type: ignore[assignment]
    try:
        yield
    finally:
        LiveModel.activation_limit_bytes = known  # type: ignore[method-assign]


def forget_peak() -> None:
    """Begin to measure the peak of resident memory anew. Linux only."""
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)


def peak_bytes() -> int:
    """Return the peak of this process's resident memory, mapped files included."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
