"""Which of lm-eval's own tasks this program runs, as far as their YAML says; no data set is loaded."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation._user_code import FunctionRef
from evomerge.evaluation.metrics import OWN, Measure, choose_measure
from evomerge.evaluation.prepare._group import read_task
from evomerge.evaluation.prepare._index import TaskIndex
from evomerge.evaluation.prepare._task_config import accept, runs_code

_UNTITLED = "(defaults)"  # aggregation where neither the YAML nor the metric names one


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskVerdict:
    """What is known of a task.

    Attributes:
        name: of the task.
        kind: "mean", "set" (a metric of the whole set), "code" (needs leave), or "refused".
        reason: why it is refused, or "".
        first: whether its first metric is the one that can be used.
    """

    name: str
    kind: str
    reason: str = ""
    first: bool = True


def survey(names: Collection[str] | None = None) -> Iterator[TaskVerdict]:
    """Yield what is known of lm-eval's tasks, groups and tags left out.

    Args:
        names: of tasks; None = all.
    """
    index = TaskIndex(None)
    known: dict[int, str] = {}
    for name in sorted(index.names() if names is None else names):
        found = index.find(name)
        if found is None or found[0].kind != "task":
            continue
        try:
            yield _verdict(name, read_task(name, index).config, known)
        except EvomergeError as error:
            yield TaskVerdict(name=name, kind="refused", reason=_short(str(error)))


def _verdict(name: str, config: Mapping[str, Any], known: dict[int, str]) -> TaskVerdict:
    accept(config, name, allow_code=True)
    if runs_code(config):
        return TaskVerdict(name=name, kind="code")
    aggregations = _aggregations(config, known)
    better = dict.fromkeys(aggregations, True)  # which way it is does not matter here
    refusal, first = "", True
    for metric in aggregations:
        try:
            measure = choose_measure(metric, aggregations, better, ["none"])
        except InvalidTask:
            refusal, first = refusal or "aggregated by a function of its own", False
            continue
        return TaskVerdict(name=name, kind=_kind(measure), first=first)
    return TaskVerdict(name=name, kind="refused", reason=refusal or "it defines no metric")


def _kind(measure: Measure) -> str:
    return "mean" if measure.parts is None else "set"


def _aggregations(config: Mapping[str, Any], known: dict[int, str]) -> dict[str, str]:
    """Return metric -> name of its aggregation, from the YAML and lm-eval's registry."""
    from evomerge.evaluation import _lm_eval

    listed = config.get("metric_list")
    if not listed:
        return _lm_eval.default_aggregations(str(config.get("output_type", "generate_until")))
    found = {}
    for entry in listed:
        metric, how = entry["metric"], entry.get("aggregation")
        title = metric.name.rpartition(".")[2] if isinstance(metric, FunctionRef) else str(metric)
        if isinstance(how, FunctionRef):
            found[title] = _name_of(how, known)
        else:
            found[title] = str(how) if how else _lm_eval.aggregation_of(title) or _UNTITLED
    return found


def _name_of(function: FunctionRef, known: dict[int, str]) -> str:
    """Return the name of a function's aggregation; functions that need more than is installed are not known."""
    from evomerge.evaluation import _lm_eval

    key = hash((function.folder, function.name))
    if key not in known:
        try:
            known[key] = _lm_eval.aggregation_name(function.load())
        except InvalidTask:
            known[key] = OWN + "function"
    return known[key]


def _short(reason: str) -> str:
    """Return a refusal without what differs from task to task."""
    return reason.partition(";")[0].partition(":")[0]
