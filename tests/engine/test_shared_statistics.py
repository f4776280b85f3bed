"""Processes that merge the same parents compute each statistic once, whoever is first."""

from pathlib import Path

import torch

from evomerge.checkpoint import Parents
from evomerge.engine import Builder, StatisticsCache, make_plan
from evomerge.methods import Statistics
from evomerge.recipe import parse_recipe
from tests.forked import Forked

NAMES = ("one", "two", "three")


def count_tables(pico: dict[str, str], cache: str) -> None:
    """Compute the statistics of a merge, waiting for others' work; print how many tables were made here."""
    tables: list[int] = []
    tabulate = Statistics._tabulate
    Statistics._tabulate = lambda self, model, above: tables.append(model) or tabulate(self, model, above)  # type: ignore[method-assign,assignment]
    models = [{"model": pico[name], "parameters": {"weight": 0.7, "density": 0.5}} for name in NAMES]
    recipe = parse_recipe({"merge_method": "ties", "base_model": pico["base"], "models": models})
    parents, statistics = Parents(recipe.models), StatisticsCache(Path(cache))
    statistics.waits = True
    builder = Builder(parents, keep_statistics=True, cache=statistics)
    for plan in make_plan(recipe, parents).tensors:
        builder.build(plan, torch.empty(plan.shape, dtype=plan.dtype))
    print(len(tables))


def test_two_processes_share_the_work(pico: dict[str, Path], tmp_path: Path) -> None:
    names = {name: str(path) for name, path in pico.items()}
    both = [Forked(count_tables, names, str(tmp_path)) for _ in range(2)]
    done = [int(output) for _, output, _ in (process.finish() for process in both)]
    assert sum(done) == len(NAMES) * len(list(tmp_path.glob("??/*.safetensors"))) > 0  # each table once, by whomever
