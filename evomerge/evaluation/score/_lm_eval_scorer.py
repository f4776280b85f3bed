"""lm-eval tasks on a live model: items of several objectives, each task's read once."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.evaluation._items import ItemRange, LmEvalItems, TaskItems
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation.generation import Generator, TransformersGenerator
from evomerge.evaluation.metrics import check_own, row_of
from evomerge.evaluation.score._bound_task import BoundTask, ItemResult
from evomerge.evaluation.score._forward import Forward
from evomerge.evaluation.score._inputs import input_device, readable_tokens
from evomerge.records import ItemScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class _WantedItems:
    """What an objective needs of a task.

    Attributes:
        objective: its name.
        first: what is added to the task's item numbers in the objective.
        ids: the task's item numbers.
    """

    objective: str
    first: int
    ids: Sequence[int]


class LmEvalScorer:
    """lm-eval tasks bound to one model object; tokens and batches are kept between calls, answers are not."""

    def __init__(
        self,
        tasks: Mapping[str, LmEvalItems],
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        generator: Generator | None = None,
    ):
        """Rebuild the tasks.

        Args:
            tasks: objective -> its items.
            model: a causal language model of transformers.
            tokenizer: its tokenizer, whose settings may be changed.
            batch_size: most rows of a forward pass.
            generator: writes the answers of tasks that generate; None = the model.

        Raises:
            InvalidInput: a task's answers may be longer than the model can read, or the tokenizer has no special token.
        """
        from evomerge.evaluation import _lm_eval

        self._tasks = tasks
        settings = next(iter(tasks.values()))
        with isolated_randomness():
            language_model = _lm_eval.new_language_model(
                model,
                tokenizer,
                device=input_device(model),
                batch_size=batch_size,
                options=settings.model_options,
            )
            if language_model.prefix_token_id is None:
                raise InvalidInput(
                    "the tokenizer has neither a beginning nor an end token, one of which lm-eval puts before a text; "
                    "name one: lm_eval: {prefix_token_id: N}"
                )
            forward, vocab_size = Forward(model), readable_tokens(model, tokenizer)
            self._generator: Generator = generator or TransformersGenerator(
                language_model, batch_size=batch_size, takes_rows=forward.sharing.possible
            )
            self._bound = {
                key: BoundTask(
                    packed,
                    language_model,
                    forward,
                    self._generator,
                    limits=settings.answer_limits,
                    batch_size=batch_size,
                    vocab_size=vocab_size,
                )
                for key, packed in _with_used_metrics(tasks).items()
            }

    @property
    def notes(self) -> Collection[str]:
        """Sentences on how the items of the calls so far were scored."""
        return self._generator.notes

    def has_gold(self, objectives: Iterable[str]) -> bool:
        """Tell whether a gradient that leads to better scores can be taken while these objectives are scored."""
        tasks = [self._tasks[name] for name in objectives]
        sources = {part.source for items in tasks for part in items.ranges}
        return all(items.measure.rewards_gold for items in tasks) and all(self._bound[s].has_gold for s in sources)

    def score(
        self, items: Mapping[str, Sequence[int]], gold: Mapping[str, float] | None = None
    ) -> dict[str, ItemScores]:
        """Score items with the weights as they are now.

        Every task's items are laid out in batches by themselves, in an order that depends on the set of items alone.

        Args:
            items: objective -> distinct item numbers, not empty, of any of its pools.
            gold: objective -> weight; the gradient of the weighted sum of the objectives' mean log-likelihoods of right
                answers is taken with the same forward passes. None = no gradient.

        Returns:
            objective -> scores in the order of its numbers.

        Raises:
            DegenerateModel: log-likelihoods are not finite, or constant, or answers do not end.
            EvomergeError: task code fails, or computes no number.
        """
        wanted: dict[str, list[_WantedItems]] = {}
        for name, ids in items.items():
            for part in self._tasks[name].ranges:
                own = self._own(part, ids)
                if own:
                    wanted.setdefault(part.source, []).append(_WantedItems(name, part.numbers.start, own))
        results: dict[str, dict[int, ItemResult]] = {name: {} for name in items}
        for source, uses in wanted.items():
            # Each item's answers are needed once, whichever objectives they count for.
            union = sorted({i for use in uses for i in use.ids})
            measures = [self._tasks[use.objective].measure for use in uses]
            weights = None if gold is None else _item_weights(uses, items, gold)
            with isolated_randomness():
                found = self._bound[source].results(union, measures, weights)
            for use, result in zip(uses, found, strict=True):
                results[use.objective].update({use.first + i: result[i] for i in use.ids})
        return {
            name: _item_scores(name, self._tasks[name], ids, results[name], self._own_aggregation(name))
            for name, ids in items.items()
        }

    def _own_aggregation(self, objective: str) -> Callable[..., Any] | None:
        """Return the aggregation of an objective's task, where that is a function of the task's own."""
        items = self._tasks[objective]
        return self._bound[items.ranges[0].source].aggregation(items.measure.metric) if items.measure.own else None

    def _own(self, part: ItemRange, ids: Sequence[int]) -> list[int]:
        """Return a task's numbers of those items that are its own."""
        first, known = part.numbers.start, self._bound[part.source].items
        return [i - first for i in ids if i in part.numbers and i - first in known]


def _item_weights(
    uses: Sequence[_WantedItems], items: Mapping[str, Sequence[int]], gold: Mapping[str, float]
) -> dict[int, float]:
    """Return a task's item number -> its weight in the sum of the objectives' means."""
    weights: dict[int, float] = {}
    for use in uses:
        for i in use.ids:
            weights[i] = weights.get(i, 0.0) + gold[use.objective] / len(items[use.objective])
    return weights


def _with_used_metrics(tasks: Mapping[str, LmEvalItems]) -> dict[str, TaskItems]:
    """Return key -> a task's items, with the metrics that some objective uses."""
    sources: dict[str, TaskItems] = {}
    metrics: dict[str, set[str]] = {}
    for items in tasks.values():
        for key, packed in items.sources.items():
            sources[key] = packed
            metrics.setdefault(key, set()).add(items.measure.metric)
    return {key: packed.with_metrics(metrics[key]) for key, packed in sources.items()}


def _item_scores(
    name: str,
    items: LmEvalItems,
    ids: Sequence[int],
    results: Mapping[int, ItemResult],
    aggregate: Callable[..., Any] | None,
) -> ItemScores:
    """Turn what a task computed into values.

    Args:
        name: of the objective.
        items: its items.
        ids: those that were scored.
        results: item number -> what the task computed.
        aggregate: the task's own aggregation, where it has one.

    Raises:
        EvomergeError: something is no finite number, or the aggregation is not what it was taken for.
    """
    measure, pairs = items.measure, []
    for i in ids:
        try:
            pair = measure.value(results[i].raw)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise EvomergeError(f"{name}, item {i}: {measure.metric} is {results[i].raw!r}, not a number") from error
        if not math.isfinite(pair[0]):
            raise EvomergeError(f"{name}, item {i}: {measure.metric} is {pair[0]}, not a finite number")
        pairs.append(pair)
    weights = tuple(weight for _, weight in pairs) if measure.weighted else None
    if items.weights is not None:
        weights = tuple(items.weights[i] for i in ids)
    soft = [results[i].soft for i in ids]
    parts = measure.parts
    if parts is not None:
        parts = replace(parts, rows=tuple(row_of(measure.aggregation, results[i].raw) for i in ids))
        if parts.metric == "ratio" and not any(row[1] for row in parts.rows):
            raise EvomergeError(f"{name}: none of the {len(ids)} items has a value of {measure.metric}")
    if aggregate is not None:
        check_own(name, parts, aggregate, [results[i].raw for i in ids])
    return ItemScores(
        ids=tuple(ids),
        values=tuple(value for value, _ in pairs),
        weights=weights,
        soft=None if any(value is None for value in soft) else tuple(value for value in soft if value is not None),
        parts=parts,
    )
