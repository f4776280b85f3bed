"""Which documents may appear as few-shot examples. None of them is in a pool."""

from collections.abc import Collection
from typing import Any

from evomerge.evaluation._request import InvalidTask
from evomerge.evaluation.prepare._pools import shuffled
from evomerge.evaluation.prepare._task import document_key

_MAX_HELD_BACK_DOCUMENTS = 64


def reserve_examples(task: Any, splits: Collection[str], seed: int, name: str) -> tuple[set[str], str]:
    """Set the task's few-shot examples apart.

    Where they come from a split that no pool uses, the task keeps them all. Where a pool uses that split, a few
    documents are held back from the pools and every prompt, of every pool, takes its examples from those alone: then
    prompts differ from lm-eval's own, and the note says so.

    Args:
        task: lm-eval's; its sampler is changed.
        splits: the splits that pools draw from.
        seed: of the choice of documents.
        name: of the task.

    Returns:
        The keys of every possible example, and a note or "".

    Raises:
        InvalidTask: there are too few documents to take examples from.
    """
    shots = task.config.num_fewshot or 0
    if not shots:
        return set(), ""
    docs = list(getattr(getattr(task, "sampler", None), "df", ()))
    if len(docs) < shots:
        raise InvalidTask(f"it takes {shots} few-shot examples from {len(docs)} documents")
    split = _example_split(task)
    note = ""
    if type(task.sampler).__name__ == "FirstNSampler":
        docs = docs[:shots]
    elif split in splits:
        size = max(shots + 1, min(_MAX_HELD_BACK_DOCUMENTS, len(docs) // 8))
        docs = [docs[i] for i in sorted(shuffled(len(docs), seed, f"{name}/few-shot")[:size])]
        task.sampler.replace_df(docs)
        note = f"takes its few-shot examples from {len(docs)} documents of {split} that are in no pool"
    return {key for doc in docs if (key := _key_or_none(task, doc))}, note


def _example_split(task: Any) -> str | None:
    """Return the split that lm-eval takes examples from, or None when they are listed in the task itself."""
    if task.fewshot_cfg.split is not None:
        return task.fewshot_cfg.split
    if task.fewshot_cfg.samples is not None:
        return None
    config = task.config
    return config.training_split or config.validation_split or config.test_split


def _key_or_none(task: Any, doc: Any) -> str | None:
    """Return a document's key, or None for an example that only the few-shot templates can render."""
    try:
        return document_key(task, doc)
    except InvalidTask:
        return None
