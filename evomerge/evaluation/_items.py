"""Prepared lm-eval items: plain data that is built once on the driver and travels to the workers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from evomerge.evaluation._user_code import FunctionRef
from evomerge.evaluation.metrics import Measure

# Builders of `datasets` that read the files named in data_files; any other dataset_path is a repository or a folder.
LOCAL_BUILDERS = frozenset({"json", "csv", "parquet", "arrow", "text", "xml"})

ModelRequestKind = Literal["loglikelihood", "loglikelihood_rolling", "generate_until"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model.

    Attributes:
        kind: the method of lm-eval's model wrapper that would be called.
        arguments: what it would be called with.
        index: of the question in its item.
    """

    kind: ModelRequestKind
    arguments: tuple[Any, ...]
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskItem:
    """One evaluation example.

    Attributes:
        doc: its document.
        requests: its questions, in the order that `process_results` expects.
    """

    doc: Any
    requests: tuple[ModelRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """What generated answers may cost.

    Attributes:
        seconds: for all answers of a task, or None.
        cut: share of the answers that may reach their length, 0 to 1.
    """

    seconds: float | None = None
    cut: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskItems:
    """An lm-eval task without its data set: configuration, and the items of all pools by number.

    Attributes:
        name: of the task.
        config: as read, with function references.
        output_type: lm-eval's.
        repeats: answers for each question of a generating task.
        features: names of a document's fields.
        sample: a document of the split that lm-eval reports on, with which a worker rebuilds the task as it was.
        multiple_input: number of alternative prompts; 0 = one prompt.
        multiple_target: number of alternative answers; 0 = one answer.
        items: item number -> item.
        code: whether it runs code that the model writes, or is a Python class: answers are judged in a sandbox.
    """

    name: str
    config: Mapping[str, Any]
    output_type: str
    repeats: int
    features: tuple[str, ...]
    sample: Any
    multiple_input: int
    multiple_target: int
    items: Mapping[int, TaskItem]
    code: bool = False

    def with_metrics(self, metrics: Collection[str]) -> "TaskItems":
        """Return the items with no other metrics of generated text: they cost time, or need a download."""
        listed = self.config.get("metric_list")
        if self.code or self.output_type != "generate_until" or not listed or self.config.get("process_results"):
            return self

        def name(metric: object) -> str:
            return metric.name.rpartition(".")[2] if isinstance(metric, FunctionRef) else str(metric)

        kept = [entry for entry in listed if name(entry["metric"]) in metrics]
        return replace(self, config={**self.config, "metric_list": kept})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRange:
    """A part of an objective's items, which come from one task.

    Attributes:
        source: key of the task in `LmEvalItems.sources`.
        numbers: of its items in the objective's numbering: those of the task plus the first of them.
    """

    source: str
    numbers: range


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalItems:
    """What a worker needs to score one objective made of lm-eval tasks.

    Attributes:
        sources: key -> a task's items; objectives that name one task twice share them.
        ranges: which of the objective's items are whose.
        measure: how the tasks' numbers become values.
        weights: item number -> weight, where tasks of a group count the same whatever their size; None = all alike.
        model_options: settings of lm-eval's model wrapper.
        answer_limits: of generated text.
    """

    sources: Mapping[str, TaskItems]
    ranges: tuple[ItemRange, ...]
    measure: Measure
    weights: Mapping[int, float] | None
    model_options: Mapping[str, Any]
    answer_limits: AnswerLimits


def answer_limit(generation_kwargs: Mapping[str, Any]) -> int:
    """Return how many tokens a generated answer may have; lm-eval knows four names for it, and 256 for none."""
    for key in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"):
        if generation_kwargs.get(key) is not None:
            return int(generation_kwargs[key])
    return 256
