"""How busy the driver alone keeps simulated workers: real search loop, ledger and optimizer; pretended candidates.

Usage: python scripts/bench_driver.py [--workers 256] [--seconds 1.0] [--candidates 5000] [--optimizer cma] [--layers N]

Every simulated worker takes the same time for a candidate and returns random item scores. Printed is the share of time
in which workers had a job, between the first and the last candidate, the most that is possible (the last round of jobs
is not a full one), and how long the driver works on one candidate. The parents are the quickstart's (21 genes);
--layers 24 makes up three with more layers (75 genes).
"""

import argparse
import heapq
import random
import tempfile
import time
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from evomerge.records import ItemScores
from evomerge.run import (
    Job,
    Ledger,
    Outcome,
    SilentObserver,
    check_search,
)
from evomerge.run.loop import SearchLoop
from evomerge.testing.pico import write_pico

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

    @property
    def workers(self) -> int:
        """All of them, at once."""
        return self._count

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
            name: ItemScores(ids=tuple(ids), values=tuple(self._random.choices((0.0, 1.0), k=len(ids))))
            for name, ids in job.items.items()
        }
        return Outcome(items=items, failure=None, seconds=self._seconds, worker="simulated")

    def close(self) -> None:
        """Nothing to stop."""


def search_file(folder: Path, workers: int, candidates: int, optimizer: str, layers: int) -> Path:
    """Write the quickstart's search for so many workers, with parents of so many layers (0 = the quickstart's own)."""
    data: dict[str, Any] = yaml.safe_load((QUICKSTART / "search.yaml").read_text(encoding="utf-8"))
    parents: Mapping[str, Any] = data["parents"]
    base, models = QUICKSTART / parents["base"], [QUICKSTART / model for model in parents["models"]]
    if layers:
        base = write_pico(folder / "base", 0, num_hidden_layers=layers)
        models = [write_pico(folder / str(k), k, near=base, num_hidden_layers=layers) for k in range(1, 4)]
    data["parents"] = {"base": str(base), "models": [str(model) for model in models]}
    data["task_path"] = str(QUICKSTART / data["task_path"])
    data |= {"budget": {"candidates": candidates}, "workers": {"count": workers}, "optimizer": optimizer}
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def simulate(
    *, workers: int, seconds: float, candidates: int, optimizer: str = "cma", layers: int = 0
) -> dict[str, Any]:
    """Run the loop; return the share of time in which workers were busy, the most possible, and the driver's work."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        setup = check_search(search_file(folder, workers, candidates, optimizer, layers))
        ledger = Ledger.create(folder / "ledger.sqlite", {"identity": {}, "state": "searching"})
        simulated = SimulatedWorkers(workers, seconds)
        loop = SearchLoop(setup, ledger, simulated, observer=SilentObserver(), stop=lambda: False)
        loop.restore()
        started = time.process_time()
        loop.run(lambda: None)
        work = time.process_time() - started
        ledger.close()
    return {
        "optimizer": optimizer,
        "genes": setup.space.domain.size,
        "workers": workers,
        "candidates": simulated.finished,
        "busy": simulated.busy / (workers * (simulated.last - simulated.first)),
        "possible": simulated.finished / workers / ceil(simulated.finished / workers),
        "driver ms a candidate": 1000 * work / simulated.finished,
    }


def main() -> None:
    """Run the loop and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--candidates", type=int, default=5000)
    parser.add_argument("--optimizer", default="cma")
    parser.add_argument("--layers", type=int, default=0)
    options = vars(parser.parse_args())
    found = simulate(**options)
    print(f"{found['candidates']} candidates of {options['seconds']:g} s on {found['workers']} simulated workers")
    print(
        f"{found['optimizer']}, {found['genes']} genes: busy {100 * found['busy']:.1f} % of "
        f"{100 * found['possible']:.1f} % possible"
    )
    print(f"the driver works {found['driver ms a candidate']:.2f} ms on one")


if __name__ == "__main__":
    main()
