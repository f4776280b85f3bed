"""A group as one objective: items of all its tasks, averaged as lm-eval averages the group.

Where lm-eval weights tasks by their number of documents, items are drawn in that proportion and count the same: on any
set of items the score is what lm-eval would report for the group on them. Where it takes the plain mean over tasks,
each task gives the same number of items as far as it has them, and an item weighs 1 / (its task's items in the pool):
the score of a whole pool is the mean of its tasks' scores.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import did_you_mean, some_of
from evomerge.evaluation._request import InvalidTask, LmEvalOptions, PoolSizes
from evomerge.evaluation.metrics import Measure, choose_measure
from evomerge.evaluation.prepare._group import GroupMetric, TaskGroup
from evomerge.evaluation.prepare._pools import proportional, spread
from evomerge.evaluation.prepare._task import check_metric
from evomerge.evaluation.prepare._task_pools import PooledTask, TaskDocuments, prepare_task
from evomerge.records import POOLS, Pool

_LINEAR = ("mean", "brier_score")  # of these, a mean over tasks is a mean over items


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledGroup:
    """A group with its items.

    Attributes:
        tasks: name -> a task's items.
        offsets: task -> what is added to its item numbers.
        measure: how every task is scored.
        pools: pool -> item numbers.
        weights: item number -> weight; None = all alike.
        facts: identity of the measurement (JSON-able).
        notes: for the user, without the group's name.
    """

    tasks: Mapping[str, PooledTask]
    offsets: Mapping[str, int]
    measure: Measure
    pools: Mapping[Pool, tuple[int, ...]]
    weights: Mapping[int, float] | None
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def choose_group_metric(group: TaskGroup, wanted: str | None, metrics: Sequence[str]) -> tuple[GroupMetric, str | None]:
    """Return the metric that a group is scored by, and its filter (None = the tasks' first).

    Args:
        group: the group.
        wanted: "metric", "metric,filter" or None for the first one.
        metrics: what its tasks compute.

    Raises:
        InvalidTask: the group does not average the wanted one.
    """
    known = group.metrics or tuple(GroupMetric(metric=metric) for metric in metrics)
    metric, _, filter_name = (wanted or "").partition(",")
    found = [entry for entry in known if entry.metric == metric or (not metric and entry.metric in metrics)]
    if not found or found[0].metric not in metrics:
        names = list(dict.fromkeys(entry.metric for entry in known if entry.metric in metrics))
        raise InvalidTask(f'it averages no "{metric}" (it averages: {", ".join(names)}).{did_you_mean(metric, names)}')
    filters = found[0].filters
    if filter_name and filters is not None and filter_name not in filters:
        raise InvalidTask(f'it averages no filter "{filter_name}" (it averages: {", ".join(filters)})')
    return found[0], filter_name or (filters[0] if filters else None)


def prepare_group(
    group: TaskGroup,
    documents: Sequence[TaskDocuments],
    *,
    wanted: str | None,
    sizes: PoolSizes,
    options: LmEvalOptions,
    chat_template: Callable[..., str] | None,
) -> PooledGroup:
    """Draw items from a group's tasks and build their prompts. Raises InvalidTask."""
    listed = list(dict.fromkeys(metric for member in documents for metric in member.loaded.task.aggregation()))
    group_metric, filter_name = choose_group_metric(group, wanted, listed)
    measures = _measures(documents, group_metric.metric, filter_name)
    used = [member for member in documents if member.loaded.name in measures]
    quotas = _quotas(used, sizes, by_size=group_metric.by_size)
    tasks, offsets, total = {}, {}, 0
    for member in used:
        name, quota = member.loaded.name, quotas[member.loaded.name]
        if any(quota.values()):
            try:
                task = prepare_task(member, sizes=PoolSizes(**quota), options=options, chat_template=chat_template)
                check_metric(member.loaded.task, next(iter(task.packed.items.values())), measures[name])
            except InvalidTask as error:
                raise InvalidTask(f"its task {name}: {error}") from error
            tasks[name], offsets[name] = task, total
        total += member.total
    pools: dict[Pool, tuple[int, ...]] = {
        pool: tuple(spread([[offsets[name] + i for i in task.pools[pool]] for name, task in tasks.items()]))
        for pool in POOLS
    }
    return PooledGroup(
        tasks=tasks,
        offsets=offsets,
        measure=next(iter(measures.values())),
        pools=pools,
        weights=None if group_metric.by_size else _equal_shares(tasks, offsets, pools),
        facts=_facts(group, group_metric, tasks),
        notes=_notes(group, group_metric, tasks, [member.loaded.name for member in documents if member not in used]),
    )


def _measures(documents: Sequence[TaskDocuments], metric: str, filter_name: str | None) -> dict[str, Measure]:
    """Return task -> how it is scored, for the tasks that have the metric. Raises InvalidTask if they disagree."""
    from evomerge.evaluation import _lm_eval

    found: dict[str, Measure] = {}
    for member in documents:
        task, name = member.loaded.task, member.loaded.name
        filters = [ensemble.name for ensemble in task._filters]
        if metric not in task.aggregation() or (filter_name and filter_name not in filters):
            continue
        aggregations = {key: _lm_eval.aggregation_name(how) for key, how in task.aggregation().items()}
        try:
            chosen = f"{metric},{filter_name or filters[0]}"
            measure = choose_measure(chosen, aggregations, task.higher_is_better(), filters)
        except InvalidTask as error:
            raise InvalidTask(f"its task {name}: {error}") from error
        filter_name = measure.filter
        if measure.aggregation not in _LINEAR or measure.own:
            raise InvalidTask(f'its metric "{metric}" is not a mean over items ({measure.aggregation} in {name})')
        if found and measure != next(iter(found.values())):
            raise InvalidTask(f'its tasks do not agree on what "{metric}" is: {next(iter(found))} and {name} differ')
        found[name] = measure
    if not found:
        raise InvalidTask(f'none of its tasks has the filter "{filter_name}"')
    return found


def _quotas(documents: Sequence[TaskDocuments], sizes: PoolSizes, *, by_size: bool) -> dict[str, dict[Pool, int]]:
    """Return task -> pool -> number of items. Raises InvalidTask when there are too few for a pool or a task."""
    shares = [len(member.docs[member.plan.final]) if by_size else 1 for member in documents]
    left = [{split: len(positions) for split, positions in member.available.items()} for member in documents]
    quotas: list[dict[Pool, int]] = [{} for _ in documents]
    for pool in POOLS:
        splits = [member.plan.split_of(pool) for member in documents]
        most = [rest[split] for rest, split in zip(left, splits, strict=True)]
        size = sum(most) if pool == "report" and sizes.report is None else sizes.of(pool)
        if size > sum(most):
            raise InvalidTask(
                f"the {pool} pool needs {size} items, its tasks have {sum(most)} left; ask for smaller pools"
            )
        counts = proportional(size, shares, most)
        if size and not by_size and min(counts) == 0:
            raise InvalidTask(
                f"it is the mean of {len(documents)} tasks, and a {pool} pool of {size} leaves some of them out"
            )
        for number, count in enumerate(counts):
            quotas[number][pool] = count
            left[number][splits[number]] -= count
    return {member.loaded.name: quota for member, quota in zip(documents, quotas, strict=True)}


def _equal_shares(
    tasks: Mapping[str, PooledTask], offsets: Mapping[str, int], pools: Mapping[Pool, Sequence[int]]
) -> dict[int, float] | None:
    """Return item -> weight such that every task counts the same in a whole pool; None when all weights are 1."""
    weights = {
        offsets[name] + i: len(pools[pool]) / len(tasks) / len(task.pools[pool])
        for name, task in tasks.items()
        for pool in POOLS
        for i in task.pools[pool]
    }
    return None if all(weight == 1.0 for weight in weights.values()) else weights


def _facts(group: TaskGroup, group_metric: GroupMetric, tasks: Mapping[str, PooledTask]) -> dict[str, Any]:
    """Return what a report should say of a group; the facts of its tasks stand below "tasks"."""
    digests = {pool: [task.facts["items_digest"][pool] for task in tasks.values()] for pool in POOLS}
    return {
        "task": group.name,
        "version": group.version,
        "weight_by_size": group_metric.by_size,
        "splits": {pool: ", ".join(sorted({task.facts["splits"][pool] for task in tasks.values()})) for pool in POOLS},
        "items_digest": {pool: hashlib.sha256("".join(found).encode()).hexdigest() for pool, found in digests.items()},
        "items": {name: {pool: len(task.pools[pool]) for pool in POOLS} for name, task in tasks.items()},
        "tasks": {name: dict(task.facts) for name, task in tasks.items()},
    }


def _notes(
    group: TaskGroup, group_metric: GroupMetric, tasks: Mapping[str, PooledTask], without: list[str]
) -> tuple[str, ...]:
    """Return what to say of a group: its tasks' notes, each once."""
    holders: dict[str, list[str]] = {}
    for name, task in tasks.items():
        for note in task.notes:
            holders.setdefault(note, []).append(name)
    notes = [f"({len(names)} of {len(tasks)} tasks: {some_of(names)}) {note}" for note, names in holders.items()]
    if not group.metrics:
        notes.append(f"is a {group.kind} that lm-eval gives no score of its own; its items count the same")
    if without:
        notes.append(f"is scored without {len(without)} tasks that have no {group_metric.metric} ({some_of(without)})")
    return tuple(notes)
