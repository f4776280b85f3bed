"""Parts of `bench_candidates.py` that turn live models into candidates: their cost, their share, and what is left over.

Candidates go through the real thing: `engine.LiveModel.apply`, and where they are scored, a search's own executor.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from bench_merge import MODELS, write_models
from bench_questions import CHARACTERS, make_tokenizer, write_task

from evomerge import methods
from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, make_plan
from evomerge.recipe import parse_recipe
from evomerge.records import Point
from evomerge.run import CandidateScorer, Job, Setup, check_search, create_executor
from evomerge.run.loop import Subsets

QUICKSTART = Path(__file__).resolve().parent.parent / "experiments" / "quickstart"
GOALS = {"task_arithmetic": 2.0, "slerp": 2.0, "ties": 5.0, "dare_ties": 5.0}  # over a copy
METHODS = (*GOALS, "linear", "dare_linear", "breadcrumbs", "model_stock")  # della: minutes a candidate
MOST_SHARE, MOST_GROWTH = 0.1, 0.02
WARM_UP = 20  # candidates before memory is looked at


@contextmanager
def random_parents(layers: int) -> Iterator[Path]:
    """Make the four parents of `bench_merge.py`, with a tokenizer each, in a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder, layers)
        for name in MODELS:
            make_tokenizer(CHARACTERS).save_pretrained(folder / name)
        yield folder


def document(method: str, number: int) -> dict[str, Any]:
    """Return the recipe of candidate `number`: other genes than those before, so that every tensor is written anew."""
    draw = random.Random(number)
    known = [parameter.name for parameter in methods.get(method).parameters]
    models = list(MODELS[1:2] if method == "slerp" else MODELS[1:])
    if method == "model_stock":  # has no genes: the order is what can change
        models = models[number % 2 :] + models[: number % 2]
    if method == "linear":
        models.insert(0, MODELS[0])
    genes = {"weight": lambda: round(draw.uniform(0.2, 0.6), 4), "density": lambda: draw.randrange(300, 800) / 1024}
    entries = [
        {"model": name, "parameters": {key: value() for key, value in genes.items() if key in known}} for name in models
    ]
    found = {"merge_method": method, "dtype": "bfloat16", "models": entries}
    if method != "linear":
        found["base_model"] = MODELS[0]
    if method == "slerp":
        found["parameters"] = {"t": round(draw.uniform(0.2, 0.8), 4)}
    return found


def materialize(
    folder: Path, only: tuple[str, ...] = METHODS, repeats: int = 7, patience: float = 90.0
) -> list[dict[str, Any]]:
    """Time candidates of each method, and in turn with them the copying of all their parents into memory held ready.

    Args:
        repeats: warm candidates of a method, fewer once they took `patience` seconds.
    """
    rows = []
    for method in only:
        recipe = parse_recipe(document(method, 0), root=folder)
        parents = Parents(list(recipe.models), folder)
        live = LiveModel(parents)
        tensors = [parents[ref].tensor(name) for ref in recipe.models for name in parents[ref].tensors]
        buffers = [torch.empty_like(tensor) for tensor in tensors]

        def copy(tensors: list[torch.Tensor] = tensors, buffers: list[torch.Tensor] = buffers) -> None:
            for buffer, tensor in zip(buffers, tensors, strict=True):
                buffer.copy_(tensor)

        def make(number: int, method: str = method, live: LiveModel = live) -> float:
            plan = make_plan(parse_recipe(document(method, number), root=folder), live.parents)
            return seconds_of(lambda: live.apply(plan))

        copy()
        cold, warm, copies = make(0), [], []
        make(1)
        begun = time.perf_counter()
        for number in range(2, 2 + repeats):
            copies.append(seconds_of(copy))
            warm.append(make(number))
            if time.perf_counter() - begun > patience:
                break
        seconds, floor = statistics.median(warm), statistics.median(copies)
        rows.append(
            {
                "method": method,
                "s": seconds,
                "copy s": floor,
                "over a copy": seconds / floor,
                "goal": GOALS.get(method),
                "first s": cold,
                "first over a copy": cold / floor,
            }
        )
    return rows


def seconds_of(action: Callable[[], object]) -> float:
    """Return the seconds an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class Candidates:
    """Scores random points of a search's space with the search's own inline executor."""

    def __init__(self, setup: Setup):
        self._setup, self._draw = setup, random.Random(0)
        self._executor = create_executor(setup)
        self._subsets: dict[int, Subsets] = {}

    def score(self, number: int, size: int) -> float:
        """Score candidate `number` on so many items of each task, and return its seconds."""
        reals = tuple(self._draw.random() for _ in range(self._setup.space.domain.reals))
        recipe = self._setup.space.decode(Point(reals=reals))
        pools = {name: dict(each) for name, each in self._setup.prepared.pools.items()}
        subsets = self._subsets.setdefault(size, Subsets(pools, size, "rotate", 0))
        items = subsets.items(subsets.number(number // 8))
        self._executor.submit(Job(candidate=number, pool="search", document=recipe, items=items))
        ((_, outcome),) = self._executor.wait(0.0)
        assert outcome.failure is None, outcome.failure
        return outcome.seconds


@contextmanager
def clocked(owner: Any, name: str) -> Iterator[list[float]]:
    """Note the seconds of each call of a function while inside."""
    original, seconds = getattr(owner, name), []

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, original)


def share(label: str, setup: Setup, size: int, warm_up: int, repeats: int) -> dict[str, Any]:
    """Return the share of materialization in the time of whole candidates, after some on a single item."""
    candidates = Candidates(setup)
    for number in range(warm_up):
        candidates.score(number, 1)
    scorer = sys.modules[CandidateScorer.__module__]
    with clocked(LiveModel, "apply") as making, clocked(scorer, "make_plan") as planning:
        whole = [candidates.score(warm_up + number, size) for number in range(repeats)]
    return {
        "search": label,
        "candidate s": statistics.median(whole),
        "planning s": statistics.median(planning),
        "materialization s": statistics.median(making),
        "share": statistics.median(part / total for part, total in zip(making, whole, strict=True)),
        "goal": MOST_SHARE,
    }


def shares(folder: Path, items: int = 100, repeats: int = 9, large_repeats: int = 1) -> list[dict[str, Any]]:
    """Return that share for the quickstart and for searches over the parents in `folder`."""
    rows = [share("quickstart", quickstart(), 64, WARM_UP, repeats)]
    write_task(folder, items=items + 2, context=64, choice=32, shots=0, vocabulary=len(CHARACTERS) + 2)
    for method in ("task_arithmetic", "ties"):
        rows.append(
            share(f"0.3 B, {items} items, {method}", large_search(folder, method, items), items, 2, large_repeats)
        )
    return rows


def quickstart() -> Setup:
    """Return the quickstart's search, to be run in this process."""
    return check_search(QUICKSTART / "search.yaml", workers=0)


def large_search(folder: Path, method: str, items: int) -> Setup:
    """Return a search over the parents in `folder`, scored on the four-choice questions there."""
    genes: dict[str, Any] = {"weight": {"per": ["model", "layer"], "range": [0.1, 0.6]}}
    if method == "ties":
        genes["density"] = {"per": ["model"], "range": [0.2, 0.9]}
    search: Mapping[str, Any] = {
        "parents": {"base": str(folder / "base"), "models": [str(folder / name) for name in MODELS[1:]]},
        "space": {"method": method, "genes": genes},
        "tasks": [{"task": "four_choices", "metric": "acc"}],
        "task_path": str(folder),
        "allow_test_split": ["four_choices"],
        "pools": {"search": items, "select": 1, "report": 1},
        "subset": {"size": items},
        "budget": {"candidates": 10},
        "workers": {"count": 0, "batch_size": 16},
    }
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(search), encoding="utf-8")
    return check_search(file)


def growth(candidates: int = 200, setup: Setup | None = None) -> list[dict[str, Any]]:
    """Return how this process's memory grows over so many candidates after the first few, and over as many more."""
    maker, process = Candidates(setup or quickstart()), psutil.Process()
    sizes = []
    for number in range(WARM_UP + 2 * candidates):
        maker.score(number, 64)
        if number + 1 >= WARM_UP and (number + 1 - WARM_UP) % candidates == 0:
            sizes.append((number + 1, process.memory_info().rss))
    return [
        {"after": first, "MB": before / 1e6, "and after": second, "then MB": after / 1e6, "growth": after / before - 1}
        | {"goal": MOST_GROWTH}
        for (first, before), (second, after) in pairwise(sizes)
    ]
