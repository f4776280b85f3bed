"""Checking a search's tasks: items and prompts are prepared once, on the driver; floors are resolved."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.checkpoint import Tokenizer
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks
from evomerge.run.config._collector import ProblemCollector
from evomerge.run.config._schema import RelativeFloor, SearchEntry, TaskEntry, resolve


def prepare(
    entry: SearchEntry, folder: Path, problems: ProblemCollector, tokenizers: Sequence[Tokenizer]
) -> Prepared | None:
    """Return the tasks with their items, or None after noting what is wrong with them.

    Args:
        entry: the search file.
        folder: that relative paths start from.
        problems: receives what is wrong.
        tokenizers: of the candidates, then of the parents that could be opened; the first makes chats of prompts.
    """
    if isinstance(entry.subset.size, int) and entry.subset.size > entry.pools.search:
        problems.add("subset.size", f"found {entry.subset.size}, more than pools.search has ({entry.pools.search})")
    tokenizer = None
    if entry.lm_eval.get("apply_chat_template"):
        if not tokenizers:
            problems.skip("tasks", "parents, whose chat template it needs,")
            return None
        tokenizer = problems.attempt("lm_eval", tokenizers[0].load)
    pools = PoolSizes(search=entry.pools.search, select=entry.pools.select, report=entry.pools.report)
    requests = [_request(task, folder, f"{problems.where}: tasks.{i}") for i, task in enumerate(entry.tasks)]
    prepared = problems.attempt(
        "tasks",
        lambda: prepare_tasks(
            requests,
            task_path=resolve(folder, entry.task_path) if entry.task_path else None,
            pools=pools,
            seed=entry.seed,
            lm_eval_options=entry.lm_eval,
            allow_test_split=entry.allow_test_split,
            allow_code=entry.allow_code,
            tokenizer=tokenizer,
        ),
    )
    if prepared is not None and not any(objective.weight for objective in prepared.objectives):
        problems.add("tasks", "no objective has a weight above 0, so there is nothing to choose a pick by; add a task")
    return prepared


def _request(task: TaskEntry, folder: Path, where: str) -> TaskRequest:
    scorer, items = task.scorer, task.items
    if isinstance(scorer, str):
        file, _, function = scorer.rpartition(":")
        scorer = f"{resolve(folder, file)}:{function}"
    return TaskRequest(
        task=task.task,
        scorer=scorer,
        items=resolve(folder, items) if isinstance(items, str) else items,
        evaluator=task.evaluator,
        options=task.options,
        name=task.name,
        folder=folder,
        metric=task.metric,
        num_fewshot=task.num_fewshot,
        direction=task.direction,
        weight=task.weight,
        floor=task.floor if isinstance(task.floor, float) else None,
        scale=task.scale,
        where=where,
    )


def relative_floors(
    entry: SearchEntry, prepared: Prepared | None, problems: ProblemCollector
) -> dict[str, tuple[str, float]]:
    """Return the floors that are relative to a parent's own score.

    Args:
        entry: the search file.
        prepared: its tasks; None = they could not be prepared, and only mistakes are looked for.
        problems: receives a problem for each floor whose parent is unknown or ambiguous.

    Returns:
        Objective -> (parent, distance below it in the metric's own units).
    """
    found: dict[str, tuple[str, float]] = {}
    names = [str(ref) for ref in (entry.parents.base, *entry.parents.models) if ref is not None]
    for i, task in enumerate(entry.tasks):
        if not isinstance(task.floor, RelativeFloor):
            continue
        matches = [name for name in names if task.floor.parent in (name, Path(name).name)]
        if len(matches) != 1:
            problems.add(
                f"tasks.{i}.floor.parent", f'"{task.floor.parent}" is not one of the parents ({", ".join(names)})'
            )
        elif prepared is not None:
            found[prepared.objectives[i].name] = (matches[0], task.floor.minus)
    return found
