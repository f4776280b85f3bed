"""Tasks and groups by name, each loaded and divided once, whatever metrics of it are wanted."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

from evomerge.errors import did_you_mean
from evomerge.evaluation._request import (
    InvalidTask,
    LmEvalOptions,
    LmEvalSettings,
    PoolSizes,
    TaskRequest,
    UnknownTask,
)
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation.prepare._group import TaskConfig, is_group, read_group, read_task
from evomerge.evaluation.prepare._group_pools import PooledGroup, prepare_group
from evomerge.evaluation.prepare._index import TaskIndex
from evomerge.evaluation.prepare._task import load_task
from evomerge.evaluation.prepare._task_pools import PooledTask, TaskDocuments, prepare_task, read_documents

T = TypeVar("T")


class TaskLoader:
    """Loads what requests name. A task may be used by one objective or group only, or their pools would overlap."""

    def __init__(self, *, settings: LmEvalSettings, pools: PoolSizes, seed: int):
        """Load nothing yet.

        Args:
            settings: of all tasks.
            pools: items per task.
            seed: of the division into pools.
        """
        self._settings, self._pools, self._seed = settings, pools, seed
        self._found: dict[Hashable, Any] = {}
        self._user_of: dict[str, tuple[str, int | None]] = {}

    def is_group(self, name: str) -> bool:
        """Return whether a name is a group or a tag. Raises InvalidTask for an unknown one."""
        try:
            return is_group(name, self._index)
        except UnknownTask:
            raise InvalidTask(self._unknown_text(name)) from None

    def task(self, request: TaskRequest) -> tuple[TaskDocuments, PooledTask]:
        """Return a task's documents and its items. Raises InvalidTask."""
        name, options = str(request.task), self._options_of(request)

        def make() -> tuple[TaskDocuments, PooledTask]:
            documents = self._documents(read_task(name, self._index), request)
            template = self._settings.chat_template
            return documents, prepare_task(documents, sizes=self._pools, options=options, chat_template=template)

        self._claim(name, request)
        return self._once(("task", name), make)

    def group(self, request: TaskRequest) -> PooledGroup:
        """Return a group with its items. Raises InvalidTask."""
        name = str(request.task)
        group = self._once(("group", name), lambda: read_group(name, self._index))
        for config in group.tasks:
            self._claim(config.name, request)
        documents = self._once(("documents", name), lambda: [self._of_group(config, request) for config in group.tasks])
        with isolated_randomness():
            prepared = prepare_group(
                group,
                documents,
                wanted=request.metric,
                sizes=self._pools,
                options=self._options_of(request),
                chat_template=self._settings.chat_template,
            )
        if self._found.setdefault(("pools", name), prepared.pools) != prepared.pools:
            raise InvalidTask("its metrics are of different tasks; name one of them, or their pools overlap")
        # Two metrics of a group travel with one copy of its items.
        tasks = {task: self._found.setdefault(("items", name, task), own) for task, own in prepared.tasks.items()}
        return replace(prepared, tasks=tasks)

    def _of_group(self, config: TaskConfig, request: TaskRequest) -> TaskDocuments:
        try:
            return self._documents(config, request)
        except InvalidTask as error:
            raise InvalidTask(f"its task {config.name}: {error}") from error

    def _documents(self, config: TaskConfig, request: TaskRequest) -> TaskDocuments:
        with isolated_randomness():  # one task's loading must not depend on the others'
            may_run = request.task in self._settings.allow_code
            loaded = load_task(config, self._options_of(request), allow_code=may_run)
            allowed = request.task in self._settings.allow_test_split
            return read_documents(loaded, sizes=self._pools, seed=self._seed, allow_test_split=allowed)

    def _options_of(self, request: TaskRequest) -> LmEvalOptions:
        options, own = self._settings.options, request.num_fewshot
        return options if own is None else replace(options, num_fewshot=own)

    def _claim(self, task: str, request: TaskRequest) -> None:
        """Raise InvalidTask when another entry uses the task, or the same one with other settings."""
        use = (str(request.task), request.num_fewshot)
        other = self._user_of.setdefault(task, use)
        if other[0] != use[0]:
            raise InvalidTask(
                f'its task {task} is used by "{other[0]}", too; name each task once, or their pools overlap'
            )
        if other != use:
            raise InvalidTask(f"it is named twice with different num_fewshot ({other[1]} and {use[1]})")

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made under a key before, or make it; an error is kept, too."""
        if key not in self._found:
            try:
                with isolated_randomness():
                    self._found[key] = make()
            except InvalidTask as error:
                self._found[key] = error
        found = self._found[key]
        if isinstance(found, InvalidTask):
            raise found
        return found

    @property
    def _index(self) -> TaskIndex:
        """The index of task names, made when a task is named: scorers alone do not need it."""
        return self._once("index", lambda: TaskIndex(self._settings.task_path))

    def _unknown_text(self, name: str) -> str:
        """Return what to say of a name that lm-eval does not know."""
        index = self._index
        broken = "; ".join(f"{file} cannot be read: {error}" for file, error in index.unreadable().items())
        where = "in task_path or lm-eval" if index.folder else "in lm-eval"
        return f"there is no task of this name {where}.{did_you_mean(name, index.names())}" + (
            f" ({broken})" if broken else ""
        )
