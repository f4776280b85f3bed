"""What a caller can request: which tasks, how many items for each pool, and lm-eval's settings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evomerge.errors import InvalidInput
from evomerge.records import Pool

if TYPE_CHECKING:
    from evomerge.evaluation._evaluator import Evaluator

FEWSHOT_SEED = 1234  # lm-eval's default; few-shot prompts are those of its command line

ScorerFunction = Callable[[Any, Any, list[dict[str, Any]]], Sequence[float]]
"""A Python scorer: (model, tokenizer, items) -> one number for each item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """One entry of a search file's `tasks:` list. Exactly one of `task`, `scorer` and `evaluator` is set.

    Attributes:
        task: name of an lm-eval task, group or tag.
        scorer: "file.py:function", or a function; called with (model, tokenizer, items).
        items: what a scorer is called on: a JSONL file with one object a line, or the objects.
        evaluator: a registered kind of task by name, or an evaluator object.
        options: what the evaluator is to do, as its entry of the search file says; plain data. The entry's
            keys `items`, `metric`, `num_fewshot` and `direction` are added to them.
        name: of the objective; None = as the task, scorer or evaluator is called.
        metric: of an lm-eval task, "acc" or "exact_match,flexible-extract" (metric, filter); None = its first one.
        num_fewshot: examples in this task's prompts; None = as `lm_eval_options` and the task say. Tasks that state 0
            themselves keep it, as on lm-eval's command line.
        direction: of a scorer's numbers; an lm-eval task or an evaluator states its own.
        weight: share in the weighted mean, as in `evomerge.records.Objective`; None = 1, or 0 for what a model costs.
        floor: that the metric must reach, as in `Objective`; a floor relative to a parent is the caller's to resolve.
        scale: (low, high) of the metric, as in `Objective`.
        folder: where relative paths in `options` start; None = the working directory.
        where: the place to name in messages, e.g. "search.yaml: tasks.0".
    """

    task: str | None = None
    scorer: str | ScorerFunction | None = None
    items: Path | Sequence[Mapping[str, Any]] | None = None
    evaluator: "str | Evaluator | None" = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    metric: str | None = None
    num_fewshot: int | None = None
    direction: Literal["max", "min"] = "max"
    weight: float | None = None
    floor: float | None = None
    scale: tuple[float, float] | None = None
    folder: Path | None = None
    where: str = "tasks"

    @property
    def place(self) -> str:
        """The place to name in messages, with what the entry names: "tasks.0 (arc_easy)"."""
        chosen = self.name or self.task or self.scorer or self.evaluator
        if chosen is None:
            return self.where
        if not isinstance(chosen, str):
            chosen = getattr(chosen, "name", None) or getattr(chosen, "__name__", type(chosen).__name__)
        return f"{self.where} ({chosen})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSizes:
    """Number of items per task in each pool; a pool of 0 items is allowed (scoring one model needs no search).

    Attributes:
        search: items that candidates are scored on.
        select: items that finalists are scored on.
        report: items that the pick is scored on, last; None = every item that the other pools leave.
    """

    search: int
    select: int
    report: int | None

    def of(self, pool: Pool) -> int:
        """Return the size of one pool; 0 where it takes what is left."""
        return {"search": self.search, "select": self.select, "report": self.report or 0}[pool]


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalOptions:
    """The `lm_eval:` block of a search file: settings for building prompts and for generation.

    Attributes:
        num_fewshot: examples in each prompt; as the task says where none is given.
        apply_chat_template: whether prompts are chats.
        fewshot_as_multiturn: whether the examples of a chat are turns of their own.
        system_instruction: text before the prompt.
        fewshot_random_seed: of the choice of examples.
        chat_template_args: passed to the chat template.
        gen_kwargs: passed to generation.
        max_gen_toks: tokens of an answer, at most; a cap on what the task says.
        max_gen_seconds: seconds for all answers of one candidate to one task; an option of evomerge, not of lm-eval.
        max_cut_answers: share of answers that may reach the token limit before the candidate counts as degenerate;
            answers limited to fewer than 32 tokens may all do so.
        model: settings of lm-eval's model wrapper.
    """

    num_fewshot: int | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    fewshot_random_seed: int = FEWSHOT_SEED
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_gen_toks: int | None = None
    max_gen_seconds: float | None = None
    max_cut_answers: float = 0.5
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEvalSettings:
    """What all lm-eval tasks of a search share.

    Attributes:
        task_path: folder of the user's own task files, or None.
        options: for prompts and generation.
        allow_test_split: tasks whose every pool may come from the split that is otherwise kept for the report.
        allow_code: tasks that may run code that the model writes, or that may be Python classes.
        chat_template: (messages, add_generation_prompt) -> text, where prompts are chats.
    """

    task_path: Path | None = None
    options: LmEvalOptions = field(default_factory=LmEvalOptions)
    allow_test_split: Collection[str] = ()
    allow_code: Collection[str] = ()
    chat_template: Callable[..., str] | None = None


class InvalidTask(InvalidInput):
    """One entry of `tasks:` cannot be used. The text continues a sentence that begins with the entry's place."""


class UnknownTask(InvalidTask):
    """The entry names a task that does not exist; what to suggest is found out by whoever reports it."""
