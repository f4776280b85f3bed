"""How busy the driver alone keeps simulated workers: real search loop, ledger and optimiser; pretended candidates.

Usage: python scripts/bench_driver.py [--workers 256] [--seconds 1.0] [--candidates 5000]

Every simulated worker takes the same time for a candidate and returns random item scores. Printed is the share of time
in which workers had a job, between the first and the last candidate, and how long the driver works on one.
"""

import argparse
import heapq
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evomerge.records import ItemScores
from evomerge.run import Job, Outcome, Silent, inspect
from evomerge.run._ledger import Ledger
from evomerge.run._loop import SearchLoop

QUICKSTART = Path(__file__).resolve().parent.parent / "experiments" / "quickstart"


class SimulatedWorkers:
    """An executor whose jobs end after a fixed time; remembers how long each worker was busy."""

    def __init__(self, count: int, seconds: float):
        self._count, self._seconds = count, seconds
        self._ends: list[tuple[float, int, Job]] = []
        self._random = random.Random(0)
        self.busy = self.first = self.last = 0.0
        self.finished = 0

    @property
    def free(self) -> int:
        """Workers without a job."""
        return self._count - len(self._ends)

    def submit(self, job: Job) -> None:
        """Start a job now."""
        now = time.perf_counter()
        self.first = self.first or now
        heapq.heappush(self._ends, (now + self._seconds, job.candidate, job))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Sleep until a job ends, and return all that have."""
        if not self._ends:
            return []
        time.sleep(min(timeout, max(0.0, self._ends[0][0] - time.perf_counter())))
        done = []
        while self._ends and self._ends[0][0] <= time.perf_counter():
            _, _, job = heapq.heappop(self._ends)
            self.busy += self._seconds
            self.finished += 1
            done.append((job, self._outcome(job)))
        self.last = time.perf_counter()
        return done

    def _outcome(self, job: Job) -> Outcome:
        items = {
            name: ItemScores(ids=tuple(ids), values=tuple(float(self._random.random() < 0.5) for _ in ids))
            for name, ids in job.items.items()
        }
        return Outcome(items=items, failure=None, seconds=self._seconds, worker="simulated")

    def close(self) -> None:
        """Nothing to stop."""


def search_file(folder: Path, workers: int, candidates: int) -> Path:
    """Write the quickstart's search for so many workers."""
    data: dict[str, Any] = yaml.safe_load((QUICKSTART / "search.yaml").read_text(encoding="utf-8"))
    parents: Mapping[str, Any] = data["parents"]
    data["parents"] = {
        "base": str(QUICKSTART / parents["base"]),
        "models": [str(QUICKSTART / model) for model in parents["models"]],
    }
    data["task_path"] = str(QUICKSTART / data["task_path"])
    data |= {"budget": {"candidates": candidates}, "workers": {"count": workers}}
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def main() -> None:
    """Run the loop and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--candidates", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        setup = inspect(search_file(folder, arguments.workers, arguments.candidates))
        ledger = Ledger.create(folder / "ledger.sqlite", {"identity": {}, "state": "searching"})
        workers = SimulatedWorkers(arguments.workers, arguments.seconds)
        loop = SearchLoop(setup, ledger, workers, observer=Silent(), stop=lambda: False)
        loop.restore()
        started = time.process_time()
        loop.run(lambda: None)
        work = time.process_time() - started
        share = workers.busy / (arguments.workers * (workers.last - workers.first))
        print(f"{workers.finished} candidates of {arguments.seconds:g} s on {arguments.workers} simulated workers")
        print(f"busy {100 * share:.1f} %; the driver works {1000 * work / workers.finished:.2f} ms on one")
        ledger.close()


if __name__ == "__main__":
    main()
