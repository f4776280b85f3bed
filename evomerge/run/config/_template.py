"""A search file to start from, with a comment beside each key."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from evomerge.run.config._schema import BudgetEntry, PoolsEntry

NO_BASE = "  # base: ORG/NAME             # the common ancestor; task arithmetic needs it"
SPACE, SPACE_WITHOUT_BASE = "auto", "layerwise_linear"


class SearchOutline(NamedTuple):
    """What a new search file is to hold.

    Attributes:
        base: the common ancestor, a folder or hub id, or None.
        models: what is merged, folders or hub ids.
        tasks: lm-eval tasks, "task" or "task/metric".
        task_path: folder of further task files, or None.
        space: a shipped space or a path; None = one that fits.
        hours: of the budget, or None.
        candidates: of the budget, or None.
        workers: worker processes; 0 = in this one.
        gpus: of each worker.
    """

    base: str | None
    models: Sequence[str]
    tasks: Sequence[str]
    task_path: str | None = None
    space: str | None = None
    hours: float | None = None
    candidates: int | None = None
    workers: int = 2
    gpus: float = 0.0


def search_template(outline: SearchOutline, folder: Path) -> str:
    """Return a search file's text, with a comment beside each key.

    Args:
        outline: what it holds.
        folder: that the file will be in; local paths are written relative to it.
    """
    pools, budget = PoolsEntry(), []
    budget += [] if outline.hours is None else [f"hours: {outline.hours:g}"]
    budget += [] if outline.candidates is None else [f"candidates: {outline.candidates}"]
    budget = budget or [f"candidates: {BudgetEntry.default().candidates}"]
    space = outline.space or (SPACE if outline.base else SPACE_WITHOUT_BASE)
    models = ", ".join(_scalar(relative_place(model, folder)) for model in outline.models)
    parents = [f"  base: {_scalar(relative_place(outline.base, folder))}"] if outline.base else [NO_BASE]
    lines = [
        "# A search. Run it, or resume it, with:  evomerge search THIS_FILE --out runs/NAME",
        "# `evomerge check THIS_FILE` lists everything that is wrong with it; `evomerge schema search` all keys.",
        "parents:                       # folders or hub ids, also @revision and +adapter; paths start at this file",
        *parents,
        f"  models: [{models}]",
        "# which merges may be tried; `evomerge spaces` lists those that come along, and prints one to start from",
        f"space: {_scalar(relative_place(space, folder))}",
        "# tokenizer: union             # where the parents' tokenizers differ: union, base, or a parent",
        "tasks:                         # each is one objective; `weight:` and `floor:` may be beside `task:`",
        *(f"  - {_task(task)}" for task in outline.tasks),
        "  # - {scorer: my_scorer.py:function, items: items.jsonl}    # a Python function as an objective",
        *([f"task_path: {_scalar(relative_place(outline.task_path, folder))}"] if outline.task_path else []),
        "# lm_eval: {num_fewshot: 0, apply_chat_template: false}        # settings of all lm-eval tasks",
        "pools:                         # items per task; disjoint: the search sees only the first pool",
        f"  search: {pools.search}",
        f"  select: {pools.select}                  # finalists are scored on these, to choose the pick",
        f"  report: {pools.report}                  # the pick and all references, once, last: the verdict",
        f"budget: {{{', '.join(budget)}}}",
        "# budget may hold hours (the proof included), candidates and items; the search ends at the first of them",
        "workers:",
        f"  count: {outline.workers}                     # processes; 0 = in this one, without Ray",
        f"  gpus: {outline.gpus:g}                      # of each; fractions share a GPU",
        "seed: 0                        # the only source of randomness",
        "# start: [my_merge.yaml]       # recipes of your own: scored with the references, beaten or kept",
        "# trackers: [jsonl]            # who hears of the run: jsonl, optuna, tensorboard, trackio, mlflow, wandb",
    ]
    return "\n".join(lines) + "\n"


def _task(task: str) -> str:
    name, _, metric = task.partition("/")
    return f"{{task: {_scalar(name)}{f', metric: {_scalar(metric)}' if metric else ''}}}"


def relative_place(name: str, folder: Path) -> str:
    """Return a model, space or folder as a file in `folder` names it: hub ids and shipped names stay."""
    path = Path(name).expanduser()
    if path.is_absolute() or not path.exists():
        return name
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return relative if relative.startswith(".") else f"./{relative}"


def _scalar(text: str) -> str:
    """Return text as YAML writes it inside a flow mapping."""
    inside: str = yaml.safe_dump([text], default_flow_style=True, width=10**6, allow_unicode=True)
    return inside.strip()[1:-1]
