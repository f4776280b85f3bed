"""Compare search policies on landscapes and zoos: items until a goal is reached, and what is found at equal budget.

    python scripts/bench_search.py                               # every bed, every policy: hours on one core
    python scripts/bench_search.py --beds landscape-24 --seeds 4 --json found.json

Beds: `landscape-8`, `-24` and `-64` (item fields with a planted optimum, `evomerge.testing.landscapes`; rho 0.6, 1,000
items for the search, 2,000 held out) and the two zoos (`quickstart`, and `natural`, which `make natural-zoo` trains).
The policies are described at `POLICIES`. `evomerge` is the product with its defaults: its search loop, references,
subsets and proof; only the executor pretends on landscapes. There it gives soft scores (the margin of each item)
besides 0/1 scores, or in "evomerge, 0/1 scores" these alone.

Counted is every (candidate, item) that is scored until there is a pick, references included, an item with a backward
pass as three; items of the select and report pools are stated apart. A policy *reaches* the goal when the pick that it
would make then (best-ever sample, or mean of the distribution) first scores on the held-out items what the final pick
of mergekit-evolve does on the same bed with the same seed.

With --json, measured results are added to a file, and what it holds already is not measured again.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from evomerge.optimizers import create
from evomerge.records import Point
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
    fitness,
    scores_of,
    values_of,
)
from evomerge.run.loop import SearchLoop
from evomerge.testing.landscape_search import LandscapeExecutor, landscape_setup
from evomerge.testing.landscapes import Landscape

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
BUDGET_ITEMS = 39_000
FIRST_ITEMS = 100  # per task, that mergekit-evolve's `--limit 100` scores
FORMER_ITEMS = 64  # per task, of the default before subsets chose their own size
FORMER_SIGMA = 0.25
MERGEKIT_SIGMA = 1 / 6
BACKWARD_ITEMS = 3  # that an item with a backward pass counts as
CHECKPOINT_RATIO = 1.1  # of items between two looks at the pick
SEARCH_ITEMS, SELECT_ITEMS, REPORT_ITEMS = 1000, 256, 2000  # of a landscape
LANDSCAPE_SEEDS, ZOO_SEEDS = 12, 5
GOAL = "mergekit-evolve"
FEW = "mergekit-evolve, 100 items in all"
PRODUCTS = ("evomerge", "evomerge, 0/1 scores")


# -- executors --------------------------------------------------------------------------------------------------------


class CountingExecutor:
    """Counts the items that another executor scores, by pool."""

    def __init__(self, inner: Executor, before: Callable[[Job], None] = lambda job: None):
        self._inner, self._before = inner, before
        self.items = {"search": 0, "select": 0, "report": 0}

    @property
    def free(self) -> int:
        """Of the other executor."""
        return self._inner.free

    @property
    def workers(self) -> int:
        """Of the other executor."""
        return self._inner.workers

    def submit(self, job: Job) -> None:
        """Pass a job on."""
        self._before(job)
        self._inner.submit(job)

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """Count what has been scored."""
        finished = self._inner.wait(timeout)
        for job, outcome in finished:
            items = sum(len(ids) for ids in job.items.values()) * max(1, outcome.attempts)
            backward = getattr(outcome, "gradient", None) is not None
            self.items[job.pool] += items * (BACKWARD_ITEMS if backward else 1)
        return finished

    def close(self) -> None:
        """Leave the other executor to whoever made it."""


# -- beds -------------------------------------------------------------------------------------------------------------


class Bed(NamedTuple):
    """Something to search.

    Attributes:
        setup: the checked search with the product's defaults.
        executor: scores its recipes.
        mergekit_start: (genes,) where mergekit-evolve begins, in units of its own genes.
        mergekit_scale: of its genes, that one unit of ours is.
    """

    setup: Setup
    executor: Executor
    mergekit_start: float
    mergekit_scale: float


def landscape_bed(dimensions: int, seed: int, folder: Path, *, soft: bool = True, budget: int = BUDGET_ITEMS) -> Bed:
    """Return a landscape as a search over two tiny models that nothing is ever merged of."""
    landscape = Landscape(
        dimensions, seed=seed, search_items=SEARCH_ITEMS + SELECT_ITEMS, held_out_items=REPORT_ITEMS, rho=0.6
    )
    pools = {"search": SEARCH_ITEMS, "select": SELECT_ITEMS, "report": REPORT_ITEMS}
    setup = landscape_setup(dimensions, folder, seed=seed, pools=pools, budget={"items": budget})
    return Bed(setup, LandscapeExecutor(landscape, str(folder / "base"), soft=soft), 0.5, 1.0)


def zoo_bed(name: str, seed: int, *, budget: int = BUDGET_ITEMS, **changes: Any) -> Bed:
    """Return a zoo with tasks, pools and space of its search file, with changes, and defaults for the rest."""
    folder = EXPERIMENTS / name
    data: dict[str, Any] = yaml.safe_load((folder / "search.yaml").read_text(encoding="utf-8"))
    parents = data["parents"]
    if not (folder / parents["base"]).exists():
        sys.exit(f"{folder / parents['base']} is missing; train the zoo first: python scripts/train_zoo.py {name}")
    data["parents"] = {
        "base": str(folder / parents["base"]),
        "models": [str(folder / model) for model in parents["models"]],
    }
    data = {key: value for key, value in data.items() if key not in ("optimizer", "subset", "proof")}
    data |= {"task_path": str(folder / data["task_path"]), "budget": {"items": budget}, "seed": seed}
    data |= {"workers": {"count": 0, "batch_size": 128}, **changes}
    setup = check_search(data)
    top = max(weight_values(setup, 1.0))
    return Bed(setup, create_executor(setup), 1 / len(parents["models"]), top)


def weight_values(setup: Setup, unit: float) -> list[float]:
    """Return the weights of the recipe whose genes are all `unit`."""
    document = setup.space.decode(Point(reals=(unit,) * setup.space.domain.reals))
    found: list[float] = []

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if key in ("weight", "value") and isinstance(inner, int | float):
                    found.append(float(inner))
                else:
                    collect(inner)
        elif isinstance(value, list):
            for inner in value:
                if isinstance(inner, int | float):
                    found.append(float(inner))
                else:
                    collect(inner)

    collect({key: value for key, value in document.items() if key != "dtype"})
    return found


def bed_of(name: str, seed: int, folder: Path, *, soft: bool = True) -> Bed:
    """Return a bed by its name."""
    kind, _, size = name.partition("-")
    return landscape_bed(int(size), seed, folder, soft=soft) if kind == "landscape" else zoo_bed(name, seed)


# -- policies ---------------------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A policy to be run on a bed with a seed."""

    bed: str
    seed: int
    policy: str


class Pick(NamedTuple):
    """What a policy would return after so many items."""

    items: int
    point: Point


class Found(NamedTuple):
    """What a policy did.

    Attributes:
        picks: over the course.
        final: held-out score of the pick in the end.
        items: pool -> items that were scored.
    """

    picks: Sequence[Pick]
    final: float
    items: Mapping[str, int]


class MergekitEvolve:
    """mergekit-evolve's optimizer: pycma without bounds from equal weights; negative weights are made positive.

    Its clock-free differences: it is seeded, and it goes on where pycma would end for lack of progress.
    """

    def __init__(self, bed: Bed, seed: int):
        import cma

        size = bed.setup.space.domain.reals
        self._scale = bed.mergekit_scale
        options = {"seed": seed + 1, "verbose": -9, "verb_log": 0, "verb_disp": 0}
        self._strategy = cma.CMAEvolutionStrategy([bed.mergekit_start] * size, MERGEKIT_SIGMA, options)

    def generation(self) -> list[tuple[Any, Point]]:
        """Return a generation: each genotype with the point that it stands for."""
        return [(genotype, self._point(genotype)) for genotype in self._strategy.ask()]

    def _point(self, genotype: Any) -> Point:
        return Point(reals=tuple(float(x) for x in np.clip(np.abs(genotype) / self._scale, 0.0, 1.0)))

    def tell(self, genotypes: Sequence[Any], values: Sequence[float]) -> None:
        """Learn the values of a generation, higher is better."""
        self._strategy.tell(genotypes, [-value for value in values])


class AskTell:
    """An optimizer of ours by generations; `mean` is what it would return."""

    def __init__(self, bed: Bed, seed: int, name: str, options: Mapping[str, Any]):
        space = bed.setup.space
        self._optimizer = create(name, space.domain, objectives=1, seed=seed, start=space.start, options=options)

    def generation(self) -> list[tuple[Any, Point]]:
        """Return as many proposals as share their items."""
        proposals = [self._optimizer.ask() for _ in range(self._optimizer.generation_size)]
        return [(proposal.number, proposal.point) for proposal in proposals]

    def tell(self, numbers: Sequence[Any], values: Sequence[float]) -> None:
        """Learn the values of a generation."""
        for number, value in zip(numbers, values, strict=True):
            self._optimizer.tell(number, (value,))

    def mean(self) -> Point | None:
        """Return the mean of the distribution."""
        return self._optimizer.mean()


Draw = Callable[[Mapping[str, Sequence[int]], int, int], Mapping[str, Sequence[int]]]  # pools, seed, generation


def first_items(pools: Mapping[str, Sequence[int]], seed: int, generation: int) -> Mapping[str, Sequence[int]]:
    """Return the first items of each task, the same for all candidates."""
    return {name: ids[:FIRST_ITEMS] for name, ids in pools.items()}


def few_first_items(pools: Mapping[str, Sequence[int]], seed: int, generation: int) -> Mapping[str, Sequence[int]]:
    """Return the first items of each task, as many of all tasks together as `first_items` has of one."""
    return {name: ids[: round(FIRST_ITEMS / len(pools))] for name, ids in pools.items()}


def all_items(pools: Mapping[str, Sequence[int]], seed: int, generation: int) -> Mapping[str, Sequence[int]]:
    """Return the whole search pool."""
    return pools


def rotating_items(pools: Mapping[str, Sequence[int]], seed: int, generation: int) -> Mapping[str, Sequence[int]]:
    """Return another draw for each generation."""
    random = np.random.default_rng([seed, generation])
    return {
        name: tuple(int(item) for item in random.choice(ids, min(FORMER_ITEMS, len(ids)), replace=False))
        for name, ids in pools.items()
    }


@dataclass(frozen=True)
class Policy:
    """A search that is not the product's.

    Attributes:
        optimizer: made for a bed and a seed.
        draw: the items of a generation.
        best_ever: picks the candidate with the highest score that was seen; else the mean of the distribution.
        references: whether references are scored on the whole search pool first.
    """

    optimizer: Callable[[Bed, int], Any]
    draw: Draw
    best_ever: bool = False
    references: bool = False


def _ours(name: str, **options: Any) -> Callable[[Bed, int], AskTell]:
    return lambda bed, seed: AskTell(bed, seed, name, options)


POLICIES: Mapping[str, Policy] = {
    # `--limit 100`, default population, equal weights and sigma 1/6 at first, the best sample that was ever scored.
    GOAL: Policy(MergekitEvolve, first_items, best_ever=True),
    # The same with more candidates on fewer items: 100 of all tasks together.
    FEW: Policy(MergekitEvolve, few_first_items, best_ever=True),
    "random search": Policy(_ours("random"), first_items, best_ever=True),
    "CMA-ES, full pool": Policy(_ours("cma", sigma0=MERGEKIT_SIGMA), all_items),
    # CMA-ES from the space's start, 64 rotating items a task, every reference on the whole pool; picks the mean.
    "evomerge's former default": Policy(_ours("cma", sigma0=FORMER_SIGMA), rotating_items, references=True),
}


def score(executor: Executor, setup: Setup, document: Mapping[str, Any], pool: str, items: Any) -> float:
    """Return the fitness of a recipe on some items; minus infinity if it cannot be scored."""
    executor.submit(Job(candidate=0, pool=pool, document=document, items=items))  # type: ignore[arg-type]
    finished: list[tuple[Job, Outcome]] = []
    while not finished:
        finished = executor.wait(1.0)
    found = finished[0][1].items
    return -math.inf if found is None else fitness(setup.objectives, values_of(scores_of(found)), {})


def held_out(bed: Bed, point: Point) -> float:
    """Return a point's score on the held-out items: the whole report pool."""
    pools = {name: pools["report"] for name, pools in bed.setup.prepared.pools.items()}
    return score(bed.executor, bed.setup, bed.setup.space.decode(point), "report", pools)


def run_policy(policy: Policy, bed: Bed, seed: int, budget: int = BUDGET_ITEMS) -> Found:
    """Run a policy until the next generation would not fit into the budget as a whole."""
    setup, counting = bed.setup, CountingExecutor(bed.executor)
    pools = {name: pools["search"] for name, pools in setup.prepared.pools.items()}
    if policy.references:
        for reference in setup.references:
            score(counting, setup, reference.document, "search", pools)
    optimizer = policy.optimizer(bed, seed)
    picks = [Pick(counting.items["search"], setup.space.start)]
    best = -math.inf
    for generation in range(budget):
        items = policy.draw(pools, seed, generation)
        proposals = optimizer.generation()
        each = sum(len(ids) for ids in items.values())
        proposals = proposals[: max(0, (budget - counting.items["search"]) // each)]
        values = []
        for _, point in proposals:
            values.append(score(counting, setup, setup.space.decode(point), "search", items))
            if policy.best_ever and values[-1] > best:
                best = values[-1]
                picks.append(Pick(counting.items["search"], point))
        if counting.items["search"] + each > budget:
            break
        optimizer.tell([key for key, _ in proposals], values)
        if not policy.best_ever:
            picks.append(Pick(counting.items["search"], optimizer.mean()))
    return Found(picks, held_out(bed, picks[-1].point), counting.items)


def run_product(bed: Bed) -> Found:
    """Run the product: its loop, then its proof."""
    setup, picks = bed.setup, []
    with tempfile.TemporaryDirectory() as temporary:
        ledger = Ledger.create(Path(temporary) / "ledger.sqlite", facts_of(setup))

        def look(job: Job) -> None:
            """Note the mean, once the references are scored and a candidate is asked for."""
            spent = counting.items["search"]
            if job.candidate < len(setup.references) or job.pool != "search":
                return
            if not picks or spent >= picks[-1].items * CHECKPOINT_RATIO:
                point = loop.optimizer.mean()
                if point is not None:
                    picks.append(Pick(spent, point))

        counting = CountingExecutor(bed.executor, look)
        observer, stop = SilentObserver(), lambda: False
        loop = SearchLoop(setup, ledger, counting, observer=observer, stop=stop)
        loop.restore()
        loop.run(lambda: None)
        point = loop.optimizer.mean()
        if point is not None:
            picks.append(Pick(counting.items["search"], point))
        Proof(loop, observer=observer, stop=stop).run()
        pick = ledger.meta("pick")
        document = next(candidate.recipe for candidate in ledger.candidates() if candidate.id == pick)
        ledger.close()
    report = {name: pools["report"] for name, pools in setup.prepared.pools.items()}
    return Found(picks, score(bed.executor, setup, document, "report", report), counting.items)


def reach(bed: Bed, picks: Iterable[Pick], goal: float) -> int | None:
    """Return the items after which a pick first scored the goal on held-out items; None = never."""
    last: Pick | None = None
    due = 0.0
    for pick in picks:
        last = pick
        if pick.items < due:
            continue
        due = pick.items * CHECKPOINT_RATIO
        last = None
        if held_out(bed, pick.point) >= goal:
            return pick.items
    return last.items if last is not None and held_out(bed, last.point) >= goal else None


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(name: str, seed: int, policy: str, goal: float | None) -> dict[str, Any]:
    """Run a policy on one bed with one seed.

    Args:
        name: of the bed.
        seed: of the bed and of the policy.
        policy: its name.
        goal: held-out score to be reached; None: the policy's own final one.
    """
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        bed = bed_of(name, seed, Path(temporary), soft=policy != PRODUCTS[1])
        found = run_product(bed) if policy in PRODUCTS else run_policy(POLICIES[policy], bed, seed)
        goal = found.final if goal is None else goal
        row = {
            "bed": name,
            "seed": seed,
            "policy": policy,
            "genes": bed.setup.space.domain.size,
            "optimizer": bed.setup.optimizer if policy in PRODUCTS else None,
            "final": found.final,
            "goal": goal,
            "reach": reach(bed, found.picks, goal),
            "items": found.items["search"],
            "select": found.items["select"],
            "report": found.items["report"],
        }
        bed.executor.close()
    return row


def measure_all(todo: Sequence[Task], rows: list[dict[str, Any]], jobs: int) -> Iterator[dict[str, Any]]:
    """Measure in several processes, each goal before what is compared with it; yield results as they come.

    Args:
        todo: what is to be measured.
        rows: what has been measured.
        jobs: processes.
    """
    goals = {(row["bed"], row["seed"]): row["final"] for row in rows if row["policy"] == GOAL}
    waiting = list(todo)
    running: set[Future[dict[str, Any]]] = set()
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        while waiting or running:
            for task in list(waiting):
                known = goals.get((task.bed, task.seed))
                if len(running) < jobs and (known is not None or task.policy == GOAL):
                    waiting.remove(task)
                    running.add(pool.submit(measure, *task, known))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                row = future.result()
                if row["policy"] == GOAL:
                    goals[(row["bed"], row["seed"])] = row["final"]
                yield row


def table(rows: Sequence[Mapping[str, Any]], bed: str) -> str:
    """Return a bed's results as a Markdown table, medians over seeds."""
    by_policy: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["bed"] == bed:
            by_policy.setdefault(row["policy"], {})[row["seed"]] = row
    lines = [
        "| policy | seeds | items | reaches the goal | reach | share of the goal's items | held out | "
        "against the goal | worst seed | select + report |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    goals = by_policy.get(GOAL, {})
    for policy in [*POLICIES, *PRODUCTS]:
        found = [by_policy[policy][seed] for seed in sorted(by_policy.get(policy, {}))]
        if not found:
            continue
        reached = statistics.median(math.inf if row["reach"] is None else row["reach"] for row in found)
        shares = statistics.median(
            math.inf if row["reach"] is None else row["reach"] / goals[row["seed"]]["items"] for row in found
        )
        gains = [row["final"] - row["goal"] for row in found]
        apart = statistics.median(row["select"] + row["report"] for row in found)
        cells = [
            policy,
            str(len(found)),
            f"{statistics.median(row['items'] for row in found):,.0f}",
            f"{sum(row['reach'] is not None for row in found)} of {len(found)}",
            "-" if math.isinf(reached) else f"{reached:,.0f}",
            "-" if math.isinf(shares) else f"1/{1 / shares:.1f}" if shares < 1 else f"{shares:.2f}",
            f"{statistics.median(row['final'] for row in found):.3f}",
            "" if policy == GOAL else f"{statistics.median(gains):+.3f}",
            "" if policy == GOAL else f"{min(gains):+.3f}",
            f"{apart:,.0f}" if apart else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def todo_of(
    rows: Sequence[Mapping[str, Any]], beds: Sequence[str], policies: Sequence[str], seeds: int | None
) -> list[Task]:
    """Return what is still to be measured, seed by seed, each goal before what is compared with it."""
    known = {(row["bed"], row["seed"], row["policy"]) for row in rows}
    tasks = []
    for seed in range(seeds or max(LANDSCAPE_SEEDS, ZOO_SEEDS)):
        for bed in beds:
            landscape = bed.startswith("landscape")
            if seed >= (seeds or (LANDSCAPE_SEEDS if landscape else ZOO_SEEDS)):
                continue
            without = FEW if landscape else PRODUCTS[1]  # the same as its neighbor there
            wanted = [policy for policy in policies if policy not in (GOAL, without)]
            missing = [Task(bed, seed, policy) for policy in wanted if (bed, seed, policy) not in known]
            if (missing or GOAL in policies) and (bed, seed, GOAL) not in known:
                tasks.append(Task(bed, seed, GOAL))
            tasks += missing
    return tasks


def main() -> None:
    """Measure what is missing, and print a table for each bed."""
    beds = ("landscape-8", "landscape-24", "landscape-64", "quickstart", "natural")
    names = [*POLICIES, *PRODUCTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beds", nargs="+", choices=beds, default=beds)
    parser.add_argument("--policies", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, help=f"default: {LANDSCAPE_SEEDS} on landscapes, {ZOO_SEEDS} on zoos")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="file that results are added to")
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    todo = todo_of(rows, options.beds, options.policies, options.seeds)
    for row in measure_all(todo, rows, options.jobs):
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    for bed in options.beds:
        print(f"\n### {bed}\n\n{table(rows, bed)}")


if __name__ == "__main__":
    main()
