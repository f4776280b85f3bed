"""From a task's name to its pools: everything that is done once per task, whatever its metrics."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evomerge.evaluation._items import TaskItem, TaskItems
from evomerge.evaluation._request import PoolSizes
from evomerge.evaluation.prepare._fewshot import reserve_examples
from evomerge.evaluation.prepare._options import LmEvalOptions
from evomerge.evaluation.prepare._pools import (
    SplitPlan,
    cut_pools,
    plan_splits,
    shuffled,
    why_left_out,
    without_repeats,
)
from evomerge.evaluation.prepare._task import (
    LoadedTask,
    build_items,
    document_key,
    pack,
)
from evomerge.evaluation.prepare._task_config import runs_code
from evomerge.evaluation.sandbox import Limits, confinement
from evomerge.records import POOLS, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledTask:
    """A task with its items.

    Attributes:
        packed: the items of all pools, ready to travel.
        pools: pool -> item numbers.
        facts: identity of the measurement (JSON-able).
        notes: for the user, without the task's name.
    """

    packed: TaskItems
    pools: Mapping[Pool, tuple[int, ...]]
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDocuments:
    """What a task has, before it is divided among the pools.

    Attributes:
        loaded: the task.
        plan: the split of each pool.
        docs: split -> documents.
        available: split -> positions that pools may use, shuffled.
        examples: a note on few-shot examples, or "".
    """

    loaded: LoadedTask
    plan: SplitPlan
    docs: Mapping[str, Sequence[Any]]
    available: Mapping[str, Sequence[int]]
    left_out: Mapping[str, str]
    examples: str

    @property
    def total(self) -> int:
        """Number of documents of all splits in use; item numbers lie below it."""
        return sum(len(docs) for docs in self.docs.values())


def read_documents(loaded: LoadedTask, *, sizes: PoolSizes, seed: int, allow_test_split: bool) -> TaskDocuments:
    """Read a task's documents and set its few-shot examples and repeated documents apart. Raises InvalidTask."""
    task, name, config = loaded.task, loaded.name, loaded.task.config
    plan = plan_splits(config.training_split, config.validation_split, config.test_split, allow_test_split)
    drawn = {plan.final, *([plan.own] if sizes.search or sizes.select else [])}
    examples, note = reserve_examples(task, drawn, seed, name)
    docs = {split: loaded.documents(split) for split in plan.splits}
    # The final split first: a document that is in both is kept where lm-eval reports on it.
    keys = {split: [document_key(task, doc) for doc in docs[split]] for split in reversed(plan.splits)}
    kept = without_repeats(keys, examples)
    order = {split: shuffled(len(docs[split]), seed, f"{name}/{split}") for split in plan.splits}
    usable = {split: set(kept[split]) for split in plan.splits}
    available = {split: [i for i in order[split] if i in usable[split]] for split in plan.splits}
    left_out = why_left_out(keys, examples)
    return TaskDocuments(loaded=loaded, plan=plan, docs=docs, available=available, left_out=left_out, examples=note)


def prepare_task(
    documents: TaskDocuments, *, sizes: PoolSizes, options: LmEvalOptions, chat_template: Callable[..., str] | None
) -> PooledTask:
    """Divide a task's documents into pools and build their prompts. Raises InvalidTask."""
    loaded, plan, docs = documents.loaded, documents.plan, documents.docs
    cut = cut_pools(plan, sizes, documents.available, documents.left_out)
    starts = _starts(plan, docs)
    items: dict[int, TaskItem] = {}
    for split in plan.splits:
        chosen = [i for pool in POOLS if plan.split_of(pool) == split for i in cut[pool]]
        wanted = {i: starts[split] + i for i in chosen}
        items |= build_items(loaded.task, docs[split], wanted, options, chat_template)
    pools: dict[Pool, tuple[int, ...]] = {
        pool: tuple(starts[plan.split_of(pool)] + i for i in cut[pool]) for pool in POOLS
    }
    facts = _facts(loaded, plan, options) | {
        "documents": {split: len(docs[split]) for split in plan.splits},
        "left_out": sum(len(docs[split]) - len(documents.available[split]) for split in plan.splits),
        "numbering": starts,
        "items_digest": {pool: _items_digest(items, pools[pool]) for pool in POOLS},
    }
    notes = (
        plan.note,
        documents.examples,
        _code_note(loaded),
        _sandbox_note(loaded),
        _constant_note(loaded.task, items),
    )
    return PooledTask(
        packed=pack(loaded, items, dict(loaded.task.task_docs[0])),
        pools=pools,
        facts=facts,
        notes=tuple(note for note in notes if note),
    )


def _starts(plan: SplitPlan, docs: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """Return split -> the item number of its first document."""
    starts, total = {}, 0
    for split in plan.splits:
        starts[split] = total
        total += len(docs[split])
    return starts


def _facts(loaded: LoadedTask, plan: SplitPlan, options: LmEvalOptions) -> dict[str, Any]:
    """Return what a report should say of a task."""
    task = loaded.task
    facts: dict[str, Any] = {
        "task": loaded.name,
        "version": (task.config.metadata or {}).get("version"),
        "task_digest": loaded.digest,
        "output_type": task.OUTPUT_TYPE,
        "splits": {pool: plan.split_of(pool) for pool in POOLS},
        "num_fewshot": task.config.num_fewshot,
        "chat_template": options.apply_chat_template,
        "functions": sorted({function.name for function in loaded.functions}),
    }
    if task.OUTPUT_TYPE == "generate_until":
        facts["generation"] = dict(task.config.generation_kwargs)
    if runs_code(loaded.config):
        facts["limits"] = asdict(Limits())
    return facts


def _items_digest(items: Mapping[int, TaskItem], ids: Sequence[int]) -> str:
    """Return the SHA-256 of the questions of a pool."""
    digest = hashlib.sha256()
    for number in ids:
        digest.update(repr((number, [request.arguments for request in items[number].requests])).encode())
    return digest.hexdigest()


def _code_note(loaded: LoadedTask) -> str:
    """Return a sentence naming the Python of the user's task folder that the task runs, or ""."""
    own = sorted({function.name for function in loaded.functions if not function.built_in})
    return f"runs Python of its own folder: {', '.join(own)}" if own else ""


def _sandbox_note(loaded: LoadedTask) -> str:
    """Return a sentence of what is allowed to a task that runs code, or ""."""
    if not runs_code(loaded.config):
        return ""
    what = "is a Python class" if "class" in loaded.config else "runs code that the model writes"
    return f"{what}, as allow_code permits: answers are judged in a process of its own, {confinement()}"


def _constant_note(task: Any, items: Mapping[int, TaskItem]) -> str:
    """Return a warning when every right choice has the same position: a model that always answers it looks perfect."""
    if task.OUTPUT_TYPE != "multiple_choice" or len(items) < 2 or task.multiple_input:
        return ""
    golds = {str(task.doc_to_target(item.doc)) for item in items.values()}
    if len(golds) > 1 or not next(iter(golds)).isdigit():
        return ""
    return f"has the same right answer (choice {golds.pop()}) in every item, so that a constant model scores 1"
