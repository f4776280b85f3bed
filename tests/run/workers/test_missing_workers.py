"""The loop and workers that are not there yet, or no more; how busy they were."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evomerge.run import (
    Job,
    Outcome,
    Run,
    Setup,
    create_executor,
    search,
    utilization,
)
from evomerge.run.loop import UtilizationMeter, utilization_share
from tests.run.pico_search import differences


def inline(setup: Setup, **replaced: Callable[..., Any]) -> Any:
    """Return an inline executor whose properties and methods are given what they replace."""
    inner = create_executor(setup)

    class Strange:
        free = property(lambda self: replaced.get("free", lambda real: real)(inner.free))
        workers = property(lambda self: replaced.get("workers", lambda real: real)(inner.workers))

        def submit(self, job: Job) -> None:
            inner.submit(job)

        def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
            return replaced.get("wait", lambda real: real(timeout))(inner.wait)

        def close(self) -> None:
            inner.close()

    return Strange()


def test_a_search_waits_for_its_first_worker(search_file: Path, tmp_path: Path) -> None:
    waits: list[int] = []

    def wait(real: Callable[[float], Any]) -> Any:
        waits.append(len(waits))
        return real(0.0)

    def late(setup: Setup) -> Any:
        return inline(setup, wait=wait, free=lambda real: real if len(waits) > 5 else 0)

    run = search(search_file, tmp_path / "run", candidates=4, executor=late)
    assert run.state == "done" and len(waits) > 5
    search(search_file, tmp_path / "plain", candidates=4)
    assert differences(tmp_path / "run", tmp_path / "plain") == []


def test_a_stop_does_not_wait_for_workers_that_are_gone(search_file: Path, tmp_path: Path) -> None:
    jobs = 0

    def wait(real: Callable[[float], Any]) -> Any:
        nonlocal jobs
        jobs += 1
        if jobs > 20:
            signal.raise_signal(signal.SIGTERM)
        return real(0.0) if jobs <= 15 else []

    def vanishing(setup: Setup) -> Any:
        return inline(setup, wait=wait, workers=lambda real: real if jobs < 15 else 0)

    run = search(search_file, tmp_path / "run", candidates=12, executor=vanishing)
    assert run.state == "searching"
    assert sum(each.state == "running" for each in run.candidates()) >= 1
    assert search(search_file, tmp_path / "run", candidates=12).state == "done"
    search(search_file, tmp_path / "plain", candidates=12)
    assert differences(tmp_path / "run", tmp_path / "plain") == []


def test_a_proof_waits_for_workers_and_stops_without_them(search_file: Path, tmp_path: Path) -> None:
    proving, waits = False, 0

    def wait(real: Callable[[float], Any]) -> Any:
        nonlocal proving, waits
        found = real(0.0)
        proving = proving or any(job.pool == "select" for job, _ in found)
        waits += proving
        if waits == 10:
            signal.raise_signal(signal.SIGTERM)
        return found

    def vanishing(setup: Setup) -> Any:
        gone = lambda real: 0 if proving else real  # noqa: E731
        return inline(setup, wait=wait, free=gone, workers=gone)

    run = search(search_file, tmp_path / "run", candidates=3, executor=vanishing)
    assert run.state == "proving" and waits == 10
    assert search(search_file, tmp_path / "run", candidates=3).state == "done"


def test_utilization_counts_workers_while_they_are_up() -> None:
    busy = UtilizationMeter({})
    busy.tick(5.0, 4)  # before the first candidate nothing counts
    busy.begin(10.0)
    busy.begin(11.0)
    busy.tick(12.0, 1)
    busy.spent(1.5)
    busy.tick(14.0, 2)
    busy.spent(3.0)
    assert utilization_share(busy.plain()) == pytest.approx(4.5 / 6.0)
    later = UtilizationMeter(busy.plain())  # another session: its clock starts where the other's ended
    later.begin(20.0)
    later.tick(22.0, 2)
    later.spent(4.0)
    assert utilization_share(later.plain()) == pytest.approx(8.5 / 10.0)
    assert all(utilization_share(nothing) is None for nothing in ({}, None, UtilizationMeter({}).plain()))


def test_utilization_of_a_run(search_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICO_SLEEP", "0.05")
    run = search(search_file, tmp_path / "run", candidates=6)
    found = utilization(run)
    assert found is not None and 0.5 < found <= 1.0
    spent = sum(each.seconds for each in run.candidates() if each.kind != "mean")
    assert run.fact("busy")["spent"] == pytest.approx(spent)
    assert utilization(Run(tmp_path / "run")) == found
