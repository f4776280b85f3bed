"""Prepared items: plain data that is built once on the driver and travels to the workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RequestKind = Literal["loglikelihood", "loglikelihood_rolling", "generate_until"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model: what lm-eval would pass to the method `kind` of its model wrapper."""

    kind: RequestKind
    arguments: tuple[Any, ...]
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One evaluation example: its document and its questions, in the order that `process_results` expects."""

    doc: Any
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """Of generated text. seconds: for all answers of a task, or None. cut: share that may reach their length."""

    seconds: float | None = None
    cut: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskItems:
    """An lm-eval task without its data set: configuration, and the items of all pools by number.

    config: as read, with function references. features: names of a document's fields.
    sample: a document of the split that lm-eval reports on; with multiple_input and multiple_target (numbers of
    alternatives, 0 = one) it lets a worker rebuild the task as it was.
    """

    name: str
    config: Mapping[str, Any]
    output_type: str
    repeats: int
    features: tuple[str, ...]
    sample: Any
    multiple_input: int
    multiple_target: int
    items: Mapping[int, Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerItems:
    """A plain Python scorer: its file with the code, and the items of all pools by number (line of the JSONL file)."""

    path: str
    code: str
    function: str
    direction: Literal["max", "min"]
    items: Mapping[int, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"{self.path}:{self.function}"
