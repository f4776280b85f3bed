"""How many tokens scoring will cost, told from the texts alone: for an estimate of time before anything is loaded."""

import os.path
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.evaluation._items import Item, ScorerItems, TaskItems
from evomerge.evaluation._task import answer_limit
from evomerge.evaluation.prepare._request import Member

_SAMPLE = 64  # items of a task that are tokenized; the others count by their length


def count_tokens(
    sources: Mapping[str, TaskItems | ScorerItems],
    members: Mapping[str, Sequence[Member]],
    tokenizer: Any,
    items: Mapping[str, Sequence[int]],
) -> int:
    """Return about how many tokens go through a model (see `Prepared.tokens`)."""
    wanted: dict[str, set[int]] = {}
    for objective, ids in items.items():
        for member in members[objective]:
            own = {i - member.numbers.start for i in ids if i in member.numbers}
            wanted.setdefault(member.source, set()).update(own)
    total = 0.0
    for key, numbers in wanted.items():
        source = sources[key]
        if isinstance(source, TaskItems):
            total += _of_task(source, [source.items[i] for i in sorted(numbers) if i in source.items], tokenizer)
    return round(total)


def _of_task(source: TaskItems, items: Sequence[Item], tokenizer: Any) -> float:
    """Return the tokens of a task's items: what all prompts begin with counts once, a context once in its item."""
    contexts = [context for item in items for context in _contexts(item)]
    if not contexts:
        return 0.0
    prefix = os.path.commonprefix(contexts) if len(contexts) > 1 else ""  # noqa: RUF071  (of characters, as wanted)
    texts = [[context[len(prefix) :] for context in _contexts(item)] + _continuations(item) for item in items]
    spread = range(0, len(items), max(1, len(items) // _SAMPLE))
    sample = [text for i in spread for text in texts[i] if text]
    encoded = tokenizer(sample, add_special_tokens=False)["input_ids"] if sample else []
    rate = sum(map(len, encoded)) / max(1, sum(map(len, sample)))  # tokens a character
    read = rate * sum(len(text) for one in texts for text in one)
    predicted = sum(request.kind == "loglikelihood" for item in items for request in item.requests)
    written = sum(_generated(source, item) for item in items)
    return len(tokenizer.encode(prefix)) + max(0.0, read - predicted) + written


def _contexts(item: Item) -> Iterator[str]:
    """Yield an item's distinct contexts; a text that is scored whole is one, too."""
    yield from dict.fromkeys(str(request.arguments[0]) for request in item.requests)


def _continuations(item: Item) -> list[str]:
    """Return what a model reads after its contexts, but for the last token of each, which is only predicted."""
    return [str(request.arguments[1]) for request in item.requests if request.kind == "loglikelihood"]


def _generated(source: TaskItems, item: Item) -> int:
    """Return the most tokens that a model may write for an item."""
    asked = [request for request in item.requests if request.kind == "generate_until"]
    return source.repeats * sum(answer_limit(request.arguments[1]) for request in asked)
