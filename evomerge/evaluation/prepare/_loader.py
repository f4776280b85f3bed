"""Tasks and groups by name, each loaded and divided once, whatever metrics of it are asked for."""

from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from evomerge.errors import did_you_mean
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation._task import load_task
from evomerge.evaluation.prepare._group import (
    Leaf,
    is_group,
    leaf_of,
    read_group,
)
from evomerge.evaluation.prepare._group_pools import PreparedGroup, prepare_group
from evomerge.evaluation.prepare._index import Index
from evomerge.evaluation.prepare._options import Options
from evomerge.evaluation.prepare._request import (
    PoolSizes,
    Refused,
    TaskRequest,
    UnknownName,
)
from evomerge.evaluation.prepare._task_pools import (
    PreparedTask,
    Survey,
    prepare_task,
    survey_task,
)

T = TypeVar("T")


class Loader:
    """Loads what requests name. A task may be used by one objective or group only, or their pools would overlap."""

    def __init__(
        self,
        *,
        task_path: Path | None,
        pools: PoolSizes,
        seed: int,
        options: Options,
        allow_test_split: Collection[str],
        chat_template: Callable[..., str] | None,
    ):
        self._task_path, self._pools, self._seed = task_path, pools, seed
        self._options, self._allowed, self._template = options, allow_test_split, chat_template
        self._found: dict[Hashable, Any] = {}
        self._user_of: dict[str, tuple[str, int | None]] = {}

    def is_group(self, name: str) -> bool:
        """Return whether a name is a group or a tag. Raises Refused for an unknown one."""
        return self._named(name, lambda: is_group(name, self._index))

    def task(self, request: TaskRequest) -> tuple[Survey, PreparedTask]:
        """Return a task with its items. Raises Refused."""
        name, options = str(request.task), self._options_of(request)

        def make() -> tuple[Survey, PreparedTask]:
            survey = self._survey(leaf_of(name, self._index), request)
            return survey, prepare_task(survey, sizes=self._pools, options=options, chat_template=self._template)

        self._claim(name, request)
        return self._once(("task", name), make)

    def group(self, request: TaskRequest) -> PreparedGroup:
        """Return a group with its items. Raises Refused."""
        name = str(request.task)
        group = self._once(("group", name), lambda: read_group(name, self._index))
        for leaf in group.leaves:
            self._claim(leaf.name, request)
        surveys = self._once(("surveys", name), lambda: [self._leaf_survey(leaf, request) for leaf in group.leaves])
        with isolated_randomness():
            prepared = prepare_group(
                group,
                surveys,
                wanted=request.metric,
                sizes=self._pools,
                options=self._options_of(request),
                chat_template=self._template,
            )
        if self._found.setdefault(("pools", name), prepared.pools) != prepared.pools:
            raise Refused("its metrics are of different tasks; name one of them, or their pools overlap")
        return prepared

    def _leaf_survey(self, leaf: Leaf, request: TaskRequest) -> Survey:
        try:
            return self._survey(leaf, request)
        except Refused as refusal:
            raise Refused(f"its task {leaf.name}: {refusal}") from refusal

    def _survey(self, leaf: Leaf, request: TaskRequest) -> Survey:
        with isolated_randomness():  # one task's loading must not depend on the others'
            loaded = load_task(leaf, self._options_of(request))
            return survey_task(loaded, seed=self._seed, allow_test_split=request.task in self._allowed)

    def _options_of(self, request: TaskRequest) -> Options:
        own = request.num_fewshot
        return self._options if own is None else replace(self._options, num_fewshot=own)

    def _claim(self, leaf: str, request: TaskRequest) -> None:
        """Raise Refused when another entry uses the task, or the same one with other settings."""
        use = (str(request.task), request.num_fewshot)
        other = self._user_of.setdefault(leaf, use)
        if other[0] != use[0]:
            raise Refused(f'its task {leaf} is used by "{other[0]}", too; name each task once, or their pools overlap')
        if other != use:
            raise Refused(f"it is named twice with different num_fewshot ({other[1]} and {use[1]})")

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made under a key before, or make it; a refusal is remembered, too."""
        if key not in self._found:
            try:
                with isolated_randomness():
                    self._found[key] = make()
            except Refused as refusal:
                self._found[key] = refusal
        found = self._found[key]
        if isinstance(found, Refused):
            raise found
        return found

    def _named(self, name: str, make: Callable[[], T]) -> T:
        try:
            return make()
        except UnknownName:
            raise Refused(self._unknown_text(name)) from None

    @property
    def _index(self) -> Index:
        """The index of task names, made when a task is named: scorers alone do not need it."""
        return self._once("index", lambda: Index(self._task_path))

    def _unknown_text(self, name: str) -> str:
        """Return what to say of a name that lm-eval does not know."""
        index = self._index
        broken = "; ".join(f"{file} cannot be read: {error}" for file, error in index.unreadable().items())
        place = "in task_path or lm-eval" if index.folder else "in lm-eval"
        return f"there is no task of this name {place}.{did_you_mean(name, index.names())}" + (
            f" ({broken})" if broken else ""
        )
