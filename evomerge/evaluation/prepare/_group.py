"""lm-eval groups and tags as one objective: which tasks they hold, and how lm-eval averages them.

Members are found as lm-eval finds them: names of tasks, groups and tags, entries with overrides, and tasks or groups
written inside the list. No code of a task runs here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import did_you_mean
from evomerge.evaluation._request import InvalidTask, UnknownTask
from evomerge.evaluation.prepare._index import TaskIndex
from evomerge.evaluation.prepare._task_config import read_config

# Keys of a group's YAML that are its own; every other key overrides its tasks' settings.
_OWN = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "include"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """One task as it is to be loaded.

    Attributes:
        name: of the task.
        config: from its YAML, with the overrides of the groups around it.
        folder: where relative data files start; None: lm-eval's own.
    """

    name: str
    config: Mapping[str, Any]
    folder: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetric:
    """One metric that a group averages over its tasks.

    Attributes:
        metric: its name.
        filters: in whose results; None = whichever the tasks have.
        by_size: whether tasks weigh by their number of documents.
    """

    metric: str
    filters: tuple[str, ...] | None = None
    by_size: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGroup:
    """A group, flattened: lm-eval averages over the tasks of all levels.

    Attributes:
        name: of the group or tag.
        kind: "group" or "tag".
        version: that it states.
        tasks: of all levels.
        metrics: that it averages; empty = lm-eval gives it no score.
    """

    name: str
    kind: str
    version: Any
    tasks: tuple[TaskConfig, ...]
    metrics: tuple[GroupMetric, ...]


def is_group(name: str, index: TaskIndex) -> bool:
    """Return whether a name is a group or a tag. Raises UnknownTask."""
    found = index.find(name)
    if found is None:
        raise UnknownTask(name)
    return found[0].kind in ("group", "tag")


def read_group(name: str, index: TaskIndex) -> TaskGroup:
    """Return a group with its tasks. Raises InvalidTask, or UnknownTask."""
    found = index.find(name)
    if found is None:
        raise UnknownTask(name)
    entry, local = found
    config = {} if entry.path is None else read_config(entry.path, built_in=not local)
    tasks: dict[str, TaskConfig] = {}
    for task in _members_of(name, index, {}, ()):
        tasks.setdefault(task.name, task)
    if not tasks:
        raise InvalidTask(f"it is a {entry.kind} without tasks")
    metadata = config.get("metadata")
    return TaskGroup(
        name=name,
        kind=entry.kind,
        version=metadata.get("version") if isinstance(metadata, Mapping) else metadata,
        tasks=tuple(tasks.values()),
        metrics=tuple(_group_metrics(config.get("aggregate_metric_list"))),
    )


def read_task(name: str, index: TaskIndex) -> TaskConfig:
    """Return one task by name. Raises UnknownTask or InvalidTask."""
    return next(_members_of(name, index, {}, ()))


def _group_metrics(listed: Any) -> Iterator[GroupMetric]:
    """Read `aggregate_metric_list`."""
    for entry in [listed] if isinstance(listed, Mapping) else listed or ():
        if entry.get("aggregation", "mean") != "mean":
            raise InvalidTask(f"it aggregates {entry.get('metric')} by something else than the mean over its tasks")
        filters = entry.get("filter_list")
        yield GroupMetric(
            metric=entry["metric"],
            filters=(filters,) if isinstance(filters, str) else tuple(filters) if filters is not None else None,
            by_size=bool(entry.get("weight_by_size", True)),
        )


def _members_of(
    name: str, index: TaskIndex, overrides: Mapping[str, Any], parents: tuple[str, ...]
) -> Iterator[TaskConfig]:
    """Yield the tasks behind a name; settings of outer groups win over inner ones'."""
    if name in parents:
        raise InvalidTask(f'the group "{name}" holds itself')
    found = index.find(name)
    if found is None:
        if not parents:
            raise UnknownTask(name)
        raise InvalidTask(f'its task "{name}" does not exist.{did_you_mean(name, index.names())}')
    entry, local = found
    if entry.path is None:
        for tagged in sorted(entry.tagged):
            yield from _members_of(tagged, index, overrides, (*parents, name))
        return
    config, folder = read_config(entry.path, built_in=not local), entry.path.parent if local else None
    if entry.kind == "group":
        yield from _listed(name, config, index, overrides, (*parents, name), folder)
    else:
        yield TaskConfig(name=name, config={**config, **overrides}, folder=folder)


def _listed(
    name: str,
    config: Mapping[str, Any],
    index: TaskIndex,
    overrides: Mapping[str, Any],
    parents: tuple[str, ...],
    folder: Path | None,
) -> Iterator[TaskConfig]:
    """Yield the tasks of a group's `task:` list."""
    outer = {key: value for key, value in config.items() if key not in _OWN}
    outer.update(overrides)
    listed = config.get("task") or []
    for member in [listed] if isinstance(listed, str) else listed:
        if isinstance(member, str):
            yield from _members_of(member, index, outer, parents)
            continue
        inner = str(member.get("group") or member.get("task"))
        own = {key: value for key, value in member.items() if key not in ("task", "group")}
        if index.find(inner) is not None:
            yield from _members_of(inner, index, {**outer, **own}, parents)
        elif "group" in member:
            yield from _listed(f"{name}::{inner}", member, index, outer, parents, folder)
        elif "dataset_path" in {**outer, **own}:
            inline = f"{name}::{inner}"
            yield TaskConfig(name=inline, config={**outer, **own, "task": inline}, folder=folder)
        else:
            raise InvalidTask(f'its task "{inner}" does not exist.{did_you_mean(inner, index.names())}')
