"""Trackers: what they are told, and that nothing they do harms or delays a run."""

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evomerge.errors import InvalidFile, InvalidInput
from evomerge.records import Candidate, Pool
from evomerge.run import Run, check_search, search
from evomerge.run.trackers import FrontMember, RunEnded, RunStarted, Tracker, Trackers, create, names, register
from evomerge.run.trackers.jsonl import JsonLines
from evomerge.testing.trackers import TrackerContract
from tests.run.pico_search import differences, task, write_search


class TestJsonLines(TrackerContract):
    def create(self) -> Tracker:
        return JsonLines()


class Recorder(Tracker):
    """Keeps every event."""

    name = "recorder"
    events: ClassVar[list[tuple[str, Any]]] = []  # shared on purpose: the search file creates the object

    def started(self, run: RunStarted) -> None:
        self.events.append(("started", run))

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        self.events.append((pool, candidate))

    def front_changed(self, front: Sequence[FrontMember], pool: Pool) -> None:
        self.events.append((f"front {pool}", front))

    def ended(self, result: RunEnded) -> None:
        self.events.append(("ended", result))


class Raising(Tracker):
    """Fails at its second result."""

    name = "raising"
    count = 0

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        self.count += 1
        if self.count == 2:
            raise RuntimeError("the service is down")


class Hanging(Tracker):
    """Never returns from its first call."""

    name = "hanging"
    released = threading.Event()

    def started(self, run: RunStarted) -> None:
        self.released.wait(60)


@pytest.fixture(autouse=True)
def registered() -> None:
    Recorder.events.clear()
    for factory in (Recorder, Raising, Hanging):
        register(factory)


def lines(run: Path, file: str = "events.jsonl") -> list[dict[str, Any]]:
    """Return the events that the jsonl tracker wrote."""
    return [json.loads(line) for line in (run / "logs" / file).read_text().splitlines()]


def test_every_result_is_told_once_after_it_is_in_the_ledger(pico: dict[str, Path], tmp_path: Path) -> None:
    tasks = [task(), task("otherness")]
    file = write_search(
        tmp_path, pico, trackers=["recorder"], tasks=tasks, budget={"candidates": 9}, proof={"race": "off"}
    )
    run = search(file, tmp_path / "run")
    kinds = [kind for kind, _ in Recorder.events]
    assert (kinds[0], kinds[-1]) == ("started", "ended")
    assert kinds.count("started") == kinds.count("ended") == 1
    for pool in ("search", "select", "report"):
        told = {candidate.id: candidate.scores[pool] for kind, candidate in Recorder.events if kind == pool}
        stored = {candidate.id: candidate.scores[pool] for candidate in run.candidates() if pool in candidate.scores}
        assert told == stored, pool
        assert kinds.count(pool) == len(told), pool
    begun, result = Recorder.events[0][1], Recorder.events[-1][1]
    assert (begun.resumed, begun.optimizer, begun.folder) == (False, "cma", (tmp_path / "run").resolve())
    assert (result.state, result.pick, result.verdict) == ("done", run.fact("pick"), run.verdict)
    fronts = [front for kind, front in Recorder.events if kind == "front select"]
    assert len(fronts) == 1 and {member.candidate for member in fronts[0]} == {c.id for c in run.front}
    assert any(kind == "front search" for kind in kinds)


def test_a_search_is_the_same_with_and_without_trackers(pico: dict[str, Path], tmp_path: Path) -> None:
    tasks = [task("moody")]
    search(write_search(tmp_path, pico, tasks=tasks, budget={"candidates": 12}), tmp_path / "without")
    trackers = ["recorder", "raising", {"name": "jsonl", "recipes": True}]
    file = write_search(tmp_path, pico, tasks=tasks, budget={"candidates": 12}, trackers=trackers)
    search(file, tmp_path / "with")
    found = [line for line in differences(tmp_path / "without", tmp_path / "with") if not line.startswith("meta")]
    assert found == []
    assert any(candidate.failure for kind, candidate in Recorder.events if kind == "search")


def test_jsonl_writes_one_line_an_event(pico: dict[str, Path], tmp_path: Path) -> None:
    file = write_search(tmp_path, pico, trackers=[{"name": "jsonl", "file": "told.jsonl"}], budget={"candidates": 6})

    search(file, tmp_path / "run")
    written = lines(tmp_path / "run", "told.jsonl")
    assert [line["event"] for line in written].count("started") == 1
    scored = [line for line in written if line["event"] == "candidate_scored" and line["kind"] == "candidate"]
    searched = [line for line in scored if line["pool"] == "search"]
    assert len(searched) == 6
    assert all(set(line["scores"]["nearness"]) == {"value", "stderr", "n"} for line in searched)
    assert not any("recipe" in line for line in scored)
    assert written[-1]["event"] == "ended" and written[-1]["state"] == "done"


def test_a_resumed_run_says_so(pico: dict[str, Path], tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Observer:
        def update(self, progress: Any) -> None:
            if progress.phase == "searching" and progress.done >= 4:
                raise Killed

        def say(self, line: str) -> None:
            pass

    file = write_search(tmp_path, pico, trackers=["recorder"], budget={"candidates": 8})
    with pytest.raises(Killed):
        search(file, tmp_path / "run", observer=Observer())
    assert Recorder.events[-1][1].state == "stopped"
    Recorder.events.clear()
    search(file, tmp_path / "run")
    begun = Recorder.events[0][1]
    assert begun.resumed and begun.candidates_finished == 4
    searched = [candidate for kind, candidate in Recorder.events if kind == "search"]
    assert len(searched) == 4, "what earlier sessions told is not told again"


def test_a_tracker_that_raises_is_switched_off_with_one_warning(pico: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []

    class Observer:
        def update(self, progress: Any) -> None:
            pass

        def say(self, line: str) -> None:
            said.append(line)

    file = write_search(tmp_path, pico, trackers=["raising", "recorder"], budget={"candidates": 5})
    assert search(file, tmp_path / "run", observer=Observer()).state == "done"
    warnings = [line for line in said if "tracker" in line]
    expected = (
        "tracker raising is switched off for this session: RuntimeError: the service is down (in candidate_scored)"
    )
    assert warnings == [expected]
    assert Recorder.events[-1][0] == "ended", "the others go on"


def test_a_tracker_that_hangs_delays_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    trackers = Trackers([Hanging()], say=said.append)
    started = time.monotonic()
    contract = TestJsonLines()
    trackers.started(contract.run(tmp_path))
    for number in range(100):
        trackers.candidate_scored(contract.candidate(number, "search"), "search")
    assert time.monotonic() - started < 20, "it hangs for 60"
    trackers.ended(RunEnded(state="done", seconds=1.0), wait_seconds=0.2)
    assert time.monotonic() - started < 40, "it hangs for 60"
    assert len(said) == 1 and said[0].startswith("tracker hanging is switched off for this session: it did not keep up")
    Hanging.released.set()


WRONG: dict[str, tuple[Any, str]] = {
    "name": (["jsnol"], 'trackers.0: no tracker is called "jsnol"; known: jsonl.*Did you mean "jsonl"'),
    "option": ([{"name": "jsonl", "fil": "a"}], 'has no option "fil"; known: file, recipes.* Did you mean "file"'),
    "value": ([{"name": "jsonl", "file": "../a"}], "expected a file name such as events.jsonl"),
    "nothing": ([{"file": "a"}], "name: is required but missing"),
    "both": (["recorder", "nobody"], 'trackers.1: no tracker is called "nobody"'),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_trackers_are_sentences(name: str, pico: dict[str, Path], tmp_path: Path) -> None:
    trackers, sentence = WRONG[name]
    with pytest.raises(InvalidFile, match=sentence) as caught:
        check_search(write_search(tmp_path, pico, trackers=trackers))
    assert len(caught.value.problems) == 1


def test_a_registered_name_can_be_registered_again_and_a_built_in_one_cannot() -> None:
    register(Recorder)
    assert names()[0] == "jsonl" and "recorder" in names()
    with pytest.raises(InvalidInput, match="comes with evomerge"):
        register(Recorder, "jsonl")
    with pytest.raises(InvalidInput, match="expected a class or function"):
        register(Recorder, "two words")
    register(lambda: object(), "odd")  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidInput, match="tracker odd is a object, which lacks a name or one of the methods"):
        create("odd", {})


def test_trackers_may_change_when_a_run_resumes(pico: dict[str, Path], tmp_path: Path) -> None:
    search(write_search(tmp_path, pico, budget={"candidates": 3}), tmp_path / "run")
    file = write_search(tmp_path, pico, budget={"candidates": 3}, trackers=["jsonl"])
    assert search(file, tmp_path / "run").state == "done"
    assert Run(tmp_path / "run").fact("search")["trackers"] == ["jsonl"]
