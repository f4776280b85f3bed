"""An lm-eval task without its data set: answers to one document in, what the task computes of them out.

Imports neither torch nor transformers: the process for model-written code (see `sandbox`) loads this, too.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from evomerge.evaluation import sandbox
from evomerge.evaluation._items import TaskItems
from evomerge.evaluation._user_code import with_functions

RUNNER = f"{__name__}:answered_by_runner"
"""What a `sandbox.CodeProcess` is given to answer requests of a task."""


@dataclass(slots=True)
class FilteredAnswer:
    """What filters read and write: one request with its responses (an lm-eval Instance, as far as they care)."""

    doc: Any
    resps: list[Any]
    filtered_resps: dict[str, Any] = field(default_factory=dict)


class Documents(list[Any]):
    """A list with the one attribute of a data set that lm-eval reads."""

    features: dict[str, None]


def code_replaced(config: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return a context in which the code of a task can be loaded: what it loads to run programs runs them by itself no
    longer (see `sandbox.code_eval_replaced`)."""
    return sandbox.code_eval_replaced() if config.get("unsafe_code") else nullcontext()


def rebuilt_task(packed: TaskItems) -> Any:
    """Rebuild the lm-eval task of packed items, with one document for data; reads no data set."""
    from evomerge.evaluation import _lm_eval

    docs = Documents([packed.sample])
    docs.features = dict.fromkeys(packed.features)
    with code_replaced(packed.config):
        config = with_functions(packed.config)
        if "class" in config:
            task = _lm_eval.new_task(config, docs)
        else:
            task = _lm_eval.new_task({**config, "custom_dataset": lambda **_: {"only": docs}, "test_split": "only"})
    task.features, task.multiple_input = list(packed.features), packed.multiple_input
    task.multiple_target = packed.multiple_target
    return task


def processed(task: Any, name: str, doc: Any, responses: Sequence[list[Any]]) -> dict[str, Any]:
    """Return the metrics of one document. Raises whatever the task's own code raises.

    Args:
        task: lm-eval's.
        name: of its filter.
        doc: the document.
        responses: to each of its requests, one for each repeat.
    """
    answers = [FilteredAnswer(doc, list(given)) for given in responses]
    next(ensemble for ensemble in task._filters if ensemble.name == name).apply(answers)
    metrics: dict[str, Any] = task.process_results(doc, [answer.filtered_resps[name] for answer in answers])
    return metrics


def answered_by_runner(packed: TaskItems) -> Callable[[tuple[str, Any, Sequence[list[Any]]]], dict[str, Any]]:
    """Load a task in a runner; what is returned answers a request of (filter, document, responses)."""
    task = rebuilt_task(packed)
    return lambda request: processed(task, *request)
