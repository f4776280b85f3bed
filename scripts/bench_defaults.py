"""Measure what the default search returns on a zoo when it is given little, run whole and with its proof.

    python scripts/bench_defaults.py natural --candidates 50 100 300 --json found.json
    python scripts/bench_defaults.py quickstart --items 8000 --goal 0.9 --json found.json
    python scripts/bench_defaults.py natural --items 12000 --optimizers auto catcma tpe --json found.json

Each row is one run of the product with its defaults: the references, the search, the finalists on the select pool, the
pick, the verdict on the report pool. Held out is the report pool. An item with a backward pass counts as three, and the
items of the references on the search pool count as the search's. With --goal the search runs alone, without its proof,
and `reach` is after how many of those items the current pick (the mean of the distribution) first scores the goal on
the report pool; `held_out` is then what it scores in the end. With --optimizers each row is a run with that optimizer,
and with the defaults for all else; `guided_evolution` is `guided` as it is for tasks that generate, without gradients.

Runs of one seed share what they score twice: the same recipe on the same items has the same scores. Counts are as if
each run were alone. With --json, measured rows are added to a file, and what it holds already is not measured again.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from bench_search import CHECKPOINT_RATIO, EXPERIMENTS, CountingExecutor, Pick, held_out

from evomerge.optimizers import OPTIMIZERS
from evomerge.run import (
    Executor,
    Job,
    Ledger,
    Outcome,
    Proof,
    Setup,
    SilentObserver,
    check_search,
    create_executor,
    facts_of,
)
from evomerge.run.loop import SearchLoop

SEEDS = 5
REFERENCE_KINDS = ("parent", "simple", "start")
DEFAULT = "auto"  # optimizer
VARIANTS: Mapping[str, Mapping[str, Any]] = {"guided_evolution": {"name": "guided", "steps": 0}}  # no gradients
POINT = 0.01  # by which a pick may be below the best reference
KEPT_KEYS = ("parents", "space", "tasks", "pools")  # of the zoo's search file; everything else is the default


class RememberingExecutor:
    """Scores by another executor what has not been scored yet, and gives known outcomes at once."""

    def __init__(self, inner: Executor):
        self._inner = inner
        self._known: dict[str, Outcome] = {}
        self._ready: deque[tuple[Job, Outcome]] = deque()

    @property
    def free(self) -> int:
        """Of the other executor, less what is about to be answered: nothing is asked earlier than without memory."""
        return self._inner.free - len(self._ready)

    @property
    def workers(self) -> int:
        """Of the other executor."""
        return self._inner.workers

    def submit(self, job: Job) -> None:
        """Answer a known job, pass on another."""
        known = self._known.get(_key(job))
        if known is None:
            self._inner.submit(job)
        else:
            self._ready.append((job, known))

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Return known answers, or wait for new ones."""
        if self._ready:
            found = list(self._ready)
            self._ready.clear()
            return found
        found = self._inner.wait(timeout)
        self._known.update((_key(job), outcome) for job, outcome in found if outcome.failure is None)
        return found

    def close(self) -> None:
        """Close the other executor."""
        self._inner.close()


def _key(job: Job) -> str:
    return json.dumps([job.document, job.items, [str(direction) for direction in job.gradient or ()]], sort_keys=True)


class Bed(NamedTuple):
    """What `bench_search.held_out` needs."""

    setup: Setup
    executor: Executor


def setup_of(zoo: str, seed: int, budget: Mapping[str, int], optimizer: str = DEFAULT) -> Setup:
    """Return a zoo's search with the product's defaults, but for the optimizer."""
    folder = EXPERIMENTS / zoo
    data: dict[str, Any] = yaml.safe_load((folder / "search.yaml").read_text(encoding="utf-8"))
    parents = data["parents"]
    if not (folder / parents["base"]).exists():
        sys.exit(f"{folder / parents['base']} is missing; train the zoo first: python scripts/train_zoo.py {zoo}")
    kept = {key: data[key] for key in KEPT_KEYS}
    kept["parents"] = {
        "base": str(folder / parents["base"]),
        "models": [str(folder / model) for model in parents["models"]],
    }
    kept |= {"task_path": str(folder / data["task_path"]), "workers": {"count": 0, "batch_size": 128}}
    return check_search(kept | {"budget": dict(budget), "seed": seed, "optimizer": VARIANTS.get(optimizer, optimizer)})


def run_product(setup: Setup, executor: Executor) -> dict[str, Any]:
    """Run the product and return what it found."""
    with tempfile.TemporaryDirectory() as temporary:
        ledger = Ledger.create(Path(temporary) / "ledger.sqlite", facts_of(setup))
        counting = CountingExecutor(executor)
        observer, stop = SilentObserver(), lambda: False
        loop = SearchLoop(setup, ledger, counting, observer=observer, stop=stop)
        loop.restore()
        loop.run(lambda: None)
        Proof(loop, observer=observer, stop=stop).run()
        pick, verdict = ledger.meta("pick"), ledger.meta("verdict")
        known = {candidate.id: candidate for candidate in ledger.candidates()}
        ledger.close()
    values = {
        candidate.id: statistics.fmean(score.value for score in candidate.scores["report"].values())
        for candidate in known.values()
        if "report" in candidate.scores
    }
    best = max((c for c in values if known[c].kind in REFERENCE_KINDS), key=lambda c: values[c])
    return {
        "best_reference": Path(known[best].name).name,
        "reference": values[best],
        "pick": Path(known[pick].name).name,
        "held_out": values[pick],
        "claimed": verdict["claimed"],
        "interval": verdict["interval"],
        "verdict": verdict["text"],
        **counting.items,
    }


def run_search(setup: Setup, executor: Executor, goal: float) -> dict[str, Any]:
    """Run the product's search alone and look at its current pick now and then.

    Args:
        setup: the search.
        executor: its workers.
        goal: score on the report pool that is looked for.
    """
    picks: list[Pick] = []

    def look(job: Job) -> None:
        """Note the mean."""
        spent = counting.items["search"]
        if job.candidate < len(setup.references) or (picks and spent < picks[-1].items * CHECKPOINT_RATIO):
            return
        point = loop.optimizer.mean()
        if point is not None:
            picks.append(Pick(spent, point))

    with tempfile.TemporaryDirectory() as temporary:
        ledger = Ledger.create(Path(temporary) / "ledger.sqlite", facts_of(setup))
        counting = CountingExecutor(executor, look)
        loop = SearchLoop(setup, ledger, counting, observer=SilentObserver(), stop=lambda: False)
        loop.restore()
        loop.run(lambda: None)
        last = loop.optimizer.mean()
        ledger.close()
    assert last is not None
    bed = Bed(setup, executor)
    reached = next((pick.items for pick in picks if held_out(bed, pick.point) >= goal), None)
    value = held_out(bed, last)
    reached = counting.items["search"] if reached is None and value >= goal else reached
    return {"goal": goal, "reach": reached, "held_out": value, **counting.items}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table, one line for each zoo, budget and optimizer."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["zoo"], row["budget"], optimizer_of(row)), []).append(row)
    lines = [
        "| zoo | budget | optimizer | seeds | search items | best reference | pick | pick - reference, by seed "
        "| below by over a point | gain claimed | reach |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (zoo, budget, optimizer), found in groups.items():
        proved = [row for row in found if "reference" in row]
        gains = [row["held_out"] - row["reference"] for row in proved]
        reached = [row["reach"] for row in found if "goal" in row]
        cells = [
            zoo,
            budget,
            optimizer,
            str(len(found)),
            f"{statistics.median(row['search'] for row in found):,.0f}",
            f"{statistics.median(row['reference'] for row in proved):.3f}" if proved else "",
            f"{statistics.median(row['held_out'] for row in found):.3f}",
            ", ".join(f"{gain:+.3f}" for gain in gains),
            str(sum(gain < -POINT for gain in gains)) if proved else "",
            f"{sum(row['claimed'] for row in proved)} of {len(proved)}" if proved else "",
            ", ".join("-" if items is None else f"{items:,}" for items in reached),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def optimizer_of(row: Mapping[str, Any]) -> str:
    """Return the optimizer of a measured row; rows of the defaults may not name it."""
    return str(row.get("optimizer", DEFAULT))


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", choices=("quickstart", "natural"))
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--candidates", type=int, nargs="+", help="budgets of that many candidates")
    budget.add_argument("--items", type=int, nargs="+", help="budgets of that many search items")
    parser.add_argument("--goal", type=float, help="held-out score to be reached")
    parser.add_argument("--optimizers", nargs="+", choices=(DEFAULT, *OPTIMIZERS, *VARIANTS), default=[DEFAULT])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(SEEDS), help="default: 0 to 4")
    parser.add_argument("--json", type=Path, help="file that results are added to")
    options = parser.parse_args()
    kind = "candidates" if options.candidates else "items"
    rows: list[dict[str, Any]] = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    done = {(row["zoo"], row["budget"], optimizer_of(row), row["seed"]) for row in rows}

    import torch

    torch.set_num_threads(1)
    for seed in options.seeds:
        executor: Executor | None = None
        for size, optimizer in itertools.product(sorted(options.candidates or options.items), options.optimizers):
            name = f"{size:,} {kind}"
            if (options.zoo, name, optimizer, seed) in done:
                continue
            setup = setup_of(options.zoo, seed, {kind: size}, optimizer)
            executor = executor or RememberingExecutor(create_executor(setup))
            run = run_product if options.goal is None else partial(run_search, goal=options.goal)
            row = {"zoo": options.zoo, "budget": name, "optimizer": optimizer, "seed": seed, **run(setup, executor)}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
        if executor is not None:
            executor.close()
    print(table([row for row in rows if row["zoo"] == options.zoo]))


if __name__ == "__main__":
    main()
