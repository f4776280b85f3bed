"""Drivers that are processes of their own: killed, asked to stop, or two of them on one run."""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evomerge.errors import InvalidInput
from evomerge.run import Run, search
from tests.forked import Forked
from tests.run.loop.test_resume import RACE, TWO, assert_kept, lasting
from tests.run.pico_search import WHOLE_PROOF, differences, write_search


def drive(file: Path, out: Path) -> None:
    """Do what the command does, in a process of its own."""
    run = search(file, out)
    print(run.state)
    sys.exit(0 if run.state == "done" else 130)


class Driver:
    """A search in a process of its own, whose scorer logs every call."""

    def __init__(self, file: Path, out: Path, log: Path, sleep: float):
        self.log = log
        environment = {"PICO_LOG": str(log), "PICO_SLEEP": f"{sleep}"}
        self.process = Forked(drive, file, out, environment=environment)

    def wait_for(self, calls: int) -> bool:
        """Wait until the log of all drivers so far holds that many calls; False if the process ended before."""
        end = time.monotonic() + 60
        while logged(self.log) < calls:
            assert time.monotonic() < end, "the driver does not get on"
            if self.process.poll() is not None:
                return False
            time.sleep(0.005)
        return True

    def finish(self) -> tuple[int, str]:
        """Wait for the end and return exit code and stderr."""
        code, _, errors = self.process.finish()
        return code, errors


def logged(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Start drivers: (file, out, sleep) -> driver; whatever is left of them ends with the test."""
    started: list[Driver] = []

    def start(file: Path, out: Path, sleep: float = 0.02) -> Driver:
        started.append(Driver(file, out, tmp_path / "calls.log", sleep))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.finish()


def assert_kills_lose_nothing(
    folder: Path, file: Path, kills: int, driver: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill drivers at random moments, then let one finish; compare with a run that nobody killed."""
    whole, torn, log = folder / "whole", folder / "torn", folder / "calls.log"
    monkeypatch.setenv("PICO_LOG", str(folder / "whole.log"))
    assert search(file, whole).state == "done"
    calls = logged(folder / "whole.log")
    monkeypatch.setenv("PICO_LOG", str(log))
    chance = random.Random(kills)
    done = 0
    for point in sorted(chance.sample(range(1, calls - kills - 2), kills)):  # each is reached, whatever kills repeat
        current = driver(file, torn)
        if current.wait_for(point + done):  # a kill repeats one call at most
            time.sleep(chance.uniform(0.0, 0.04))
            current.process.send_signal(signal.SIGKILL)
            done += 1
        current.finish()
        before = lasting(torn) if (torn / "ledger.sqlite").exists() else {}
    assert search(file, torn).state == "done"
    assert done == kills
    assert_kept(before, lasting(torn))
    assert differences(whole, torn) == []
    assert calls <= logged(log) <= calls + kills, "a scored candidate was scored again"


@pytest.mark.slow
def test_kill_9_of_the_driver_loses_nothing(
    pico: dict[str, Path], tmp_path: Path, driver: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 24}, proof=RACE)
    assert_kills_lose_nothing(tmp_path, file, 2, driver, monkeypatch)


@pytest.mark.chaos
@pytest.mark.parametrize("optimizer", ["cma", "tpe", "nsga2"])
def test_kill_9_of_the_driver_many_times(
    optimizer: str,
    pico: dict[str, Path],
    tmp_path: Path,
    driver: Callable[..., Driver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_search(tmp_path, pico, optimizer=optimizer, tasks=TWO, budget={"candidates": 100}, proof=WHOLE_PROOF)
    assert_kills_lose_nothing(tmp_path, file, 15, driver, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_saves_the_state_and_the_same_command_goes_on(
    number: signal.Signals, pico: dict[str, Path], tmp_path: Path, driver: Callable[..., Driver]
) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 16})
    stopped = driver(file, tmp_path / "torn")
    assert stopped.wait_for(14)
    stopped.process.send_signal(number)
    code, errors = stopped.finish()
    assert (code, errors) == (130, "")
    run = Run(tmp_path / "torn")
    assert run.state == "searching"
    assert run.summary().owner is None
    assert all(each.state != "running" for each in run.candidates()), "it waits for what is being scored"
    assert search(file, tmp_path / "torn").state == "done"
    search(file, tmp_path / "whole")
    assert differences(tmp_path / "whole", tmp_path / "torn") == []


def test_the_second_ctrl_c_ends_at_once(pico: dict[str, Path], tmp_path: Path, driver: Callable[..., Driver]) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 5})
    slow = driver(file, tmp_path / "torn", sleep=20)
    while not (tmp_path / "calls.log.begun").exists():
        assert slow.process.poll() is None
        time.sleep(0.05)
    slow.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert slow.process.poll() is None, "the first one waits for the candidate"
    slow.process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code, errors = slow.finish()
    assert time.monotonic() - started < 15, "it did not wait for the candidate's 20 seconds"
    assert code != 0 and "KeyboardInterrupt" in errors
    assert search(file, tmp_path / "torn").state == "done"


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_free(
    pico: dict[str, Path], tmp_path: Path, driver: Callable[..., Driver]
) -> None:
    file = write_search(tmp_path, pico, budget={"candidates": 5})
    first = driver(file, tmp_path / "run", sleep=0.3)
    assert first.wait_for(1)
    with pytest.raises(InvalidInput, match=f"process {first.process.pid} on .* is working on this run"):
        search(file, tmp_path / "run")
    assert f"process {first.process.pid}" in str(Run(tmp_path / "run").summary().owner)
    first.process.kill()
    first.finish()
    assert Run(tmp_path / "run").summary().owner is None, "a dead driver works on nothing"
    assert search(file, tmp_path / "run").state == "done"
