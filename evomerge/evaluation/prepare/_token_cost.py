"""How many tokens scoring will cost, from the texts alone: for an estimate of time before anything is loaded."""

import os.path
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from evomerge.evaluation._items import LmEvalItems, TaskItem, TaskItems, answer_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAMPLE_ITEMS = 64  # of a task, that are tokenized; the others count by their length


def count_tokens(
    tasks: Mapping[str, LmEvalItems], items: Mapping[str, Sequence[int]], tokenizer: "PreTrainedTokenizerBase"
) -> int:
    """Return about how many tokens go through a model.

    Args:
        tasks: objective -> its items.
        items: objective -> item numbers; what two objectives share counts once.
        tokenizer: of the model.
    """
    sources: dict[str, TaskItems] = {}
    wanted: dict[str, set[int]] = {}
    for objective, ids in items.items():
        sources |= tasks[objective].sources
        for part in tasks[objective].ranges:
            own = {i - part.numbers.start for i in ids if i in part.numbers}
            wanted.setdefault(part.source, set()).update(own)
    total = 0.0
    for key, numbers in wanted.items():
        source = sources[key]
        total += _of_task(source, [source.items[i] for i in sorted(numbers) if i in source.items], tokenizer)
    return round(total)


def _of_task(source: TaskItems, items: Sequence[TaskItem], tokenizer: "PreTrainedTokenizerBase") -> float:
    """Return the tokens of a task's items: what all prompts begin with counts once, a context once in its item."""
    contexts = [context for item in items for context in _contexts(item)]
    if not contexts:
        return 0.0
    prefix = os.path.commonprefix(contexts) if len(contexts) > 1 else ""  # noqa: RUF071  (of characters, as wanted)
    texts = [[context[len(prefix) :] for context in _contexts(item)] + _continuations(item) for item in items]
    spread = range(0, len(items), max(1, len(items) // _SAMPLE_ITEMS))
    sample = [text for i in spread for text in texts[i] if text]
    encoded = tokenizer(sample, add_special_tokens=False)["input_ids"] if sample else []
    tokens_per_character = sum(map(len, encoded)) / max(1, sum(map(len, sample)))
    read = tokens_per_character * sum(len(text) for item_texts in texts for text in item_texts)
    predicted = sum(request.kind == "loglikelihood" for item in items for request in item.requests)
    written = sum(_generated(source, item) for item in items)
    return len(tokenizer.encode(prefix)) + max(0.0, read - predicted) + written


def _contexts(item: TaskItem) -> Iterator[str]:
    """Yield an item's distinct contexts; a text that is scored whole is one, too."""
    yield from dict.fromkeys(str(request.arguments[0]) for request in item.requests)


def _continuations(item: TaskItem) -> list[str]:
    """Return what a model reads after its contexts, but for the last token of each, which is only predicted."""
    return [str(request.arguments[1]) for request in item.requests if request.kind == "loglikelihood"]


def _generated(source: TaskItems, item: TaskItem) -> int:
    """Return the most tokens that a model may write for an item."""
    requests = [request for request in item.requests if request.kind == "generate_until"]
    return source.repeats * sum(answer_limit(request.arguments[1]) for request in requests)
