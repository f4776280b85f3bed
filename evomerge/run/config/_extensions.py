"""Python objects that a caller of `evomerge.search` brings: they need no package and no search file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge import evaluation, methods, optimizers
from evomerge.errors import InvalidInput
from evomerge.evaluation import Evaluator
from evomerge.methods import Method
from evomerge.optimizers import OptimizerSpec
from evomerge.run.trackers import Tracker, is_tracker
from evomerge.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """What a search uses besides what is built in and installed.

    Attributes:
        methods: merge methods; registered under their names, here and in every worker.
        optimizer: replaces the search file's optimizer; the file's options are its own if it names the same one.
        space: a `Space`, replaces the search file's.
        evaluators: kinds of task, registered under their names.
        trackers: receive the run's events, besides those that the search file names.
    """

    methods: tuple[Method, ...] = ()
    optimizer: OptimizerSpec | None = None
    space: Space | None = None
    evaluators: tuple[Evaluator, ...] = ()
    trackers: tuple[Tracker, ...] = ()

    def register(self) -> None:
        """Make methods, optimizer and evaluators known in this process.

        Raises:
            InvalidInput: one of them is not what it should be, or has a built-in name.
        """
        for method in self.methods:
            methods.register(method)
        if self.optimizer is not None:
            optimizers.register(self.optimizer)
        for evaluator in self.evaluators:
            evaluation.register(evaluator)
        for tracker in self.trackers:
            if not is_tracker(tracker):
                raise InvalidInput(
                    f"trackers: found {tracker!r}, expected an object with a name and the methods started, "
                    "candidate_scored, front_changed and ended; subclass evomerge.run.trackers.Tracker"
                )

    def applied(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a search file's data with the names of what replaces its parts."""
        result = dict(data)
        if self.optimizer is not None:
            named, name = result.get("optimizer"), self.optimizer.name
            own = named if isinstance(named, Mapping) and named.get("name") == name else {}
            result["optimizer"] = {**own, "name": name}
        if self.space is not None:
            result["space"] = {"object": class_name(self.space)}
        return result

    def identity(self) -> dict[str, Any]:
        """Return which objects the scores and proposals of a run depend on; empty if there are none."""
        found: dict[str, Any] = {}
        if self.methods:
            found["methods"] = {method.name: class_name(method) for method in self.methods}
        if self.optimizer is not None:
            create = self.optimizer.create
            found["optimizer_object"] = f"{create.__module__}.{getattr(create, '__qualname__', type(create).__name__)}"
        return found


def class_name(value: object) -> str:
    """Return the full name of an object's class, or of a class."""
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
