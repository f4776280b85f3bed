"""Handing a run's events to all its trackers without ever waiting for one of them, or failing with it."""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from evomerge.records import Candidate, Pool
from evomerge.run.trackers._tracker import FrontMember, RunEnded, RunStarted, Tracker

MAX_WAITING_EVENTS = 10_000  # of one tracker; one that is so far behind will not catch up
CLOSE_SECONDS = 30.0  # that the end of a session waits for trackers to finish what they were given

Event = tuple[str, tuple[object, ...]]


class Trackers:
    """All trackers of a session as one. `Trackers()` has none, and every call does nothing."""

    def __init__(self, trackers: Sequence[Tracker] = (), *, say: Callable[[str], None] = lambda line: None):
        """Start a thread for each tracker.

        Args:
            trackers: called in no order among each other.
            say: is given one sentence for each tracker that is switched off, in the caller's thread.
        """
        self._say = say
        self._channels = [_Channel(tracker) for tracker in trackers]

    def started(self, run: RunStarted) -> None:
        """Say that a session begins."""
        self._send("started", run)

    def candidate_scored(self, candidate: Candidate, pool: Pool) -> None:
        """Say that a result is in the ledger."""
        self._send("candidate_scored", candidate, pool)

    def front_changed(self, front: Sequence[FrontMember], pool: Pool) -> None:
        """Say what the front is now."""
        self._send("front_changed", tuple(front), pool)

    def ended(self, result: RunEnded, *, wait_seconds: float = CLOSE_SECONDS) -> None:
        """Say that the session ends, and wait for the trackers that are behind, so many seconds at most."""
        self._send("ended", result)
        deadline = time.monotonic() + wait_seconds
        for channel in self._channels:
            channel.close(max(0.0, deadline - time.monotonic()))
        self._report()

    def _send(self, call: str, *facts: object) -> None:
        for channel in self._channels:
            channel.send(call, facts)
        self._report()

    def _report(self) -> None:
        """Say once of each tracker that was switched off why it was."""
        for channel in self._channels:
            if channel.problem and not channel.reported:
                channel.reported = True
                self._say(f"tracker {channel.name} is switched off for this session: {channel.problem}")


class _Channel:
    """One tracker, the thread that calls it and the events that wait for it."""

    def __init__(self, tracker: Tracker):
        self.name = tracker.name
        self.problem = ""
        self.reported = False
        self._tracker = tracker
        self._events: queue.Queue[Event | None] = queue.Queue(MAX_WAITING_EVENTS)
        self._thread = threading.Thread(target=self._run, name=f"tracker {tracker.name}", daemon=True)
        self._thread.start()

    def send(self, call: str, facts: tuple[object, ...]) -> None:
        """Queue an event; never waits."""
        if self.problem:
            return
        try:
            self._events.put_nowait((call, facts))
        except queue.Full:
            self.problem = f"it is {MAX_WAITING_EVENTS} events behind"

    def close(self, seconds: float) -> None:
        """Let the thread end once the queue is empty; wait for that so many seconds."""
        if not self.problem:
            try:
                self._events.put_nowait(None)
            except queue.Full:
                self.problem = f"it is {MAX_WAITING_EVENTS} events behind"
                return
            self._thread.join(seconds)
            if self._thread.is_alive():
                self.problem = "it did not keep up, and what it still had to do is lost"

    def _run(self) -> None:
        while not self.problem and (event := self._events.get()) is not None:
            call, facts = event
            try:
                getattr(self._tracker, call)(*facts)
            except BaseException as error:  # foreign code: whatever it raises must not harm the run
                self.problem = f"{type(error).__name__}: {error} (in {call})"
