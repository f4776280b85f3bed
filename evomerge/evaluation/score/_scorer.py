"""The scorer of a worker: item numbers in, item scores out, for whatever weights the model holds now."""

import copy
import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.evaluation._items import AnswerLimits, ScorerItems, TaskItems
from evomerge.evaluation._metrics import Measure
from evomerge.evaluation._python_scorer import BoundScorer
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation.prepare._request import Member
from evomerge.evaluation.score._bound_task import BoundTask
from evomerge.evaluation.score._forward import Forward
from evomerge.evaluation.score._health import check_logits
from evomerge.evaluation.score._inputs import readable_tokens
from evomerge.records import ItemScores

_PROMPT_TOKENS = 32


class Scorer:
    """Prepared items bound to one model object.

    truncated: objective -> (answers cut off by the length limit, answers), of the last call; generating tasks only.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, TaskItems | ScorerItems],
        members: Mapping[str, Sequence[Member]],
        measures: Mapping[str, Measure],
        weights: Mapping[str, Mapping[int, float]],
        model_options: Mapping[str, Any],
        answer_limits: AnswerLimits,
        model: Any,
        tokenizer: Any,
        batch_size: int,
    ):
        if batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size}, expected at least 1")
        self.truncated: dict[str, tuple[int, int]] = {}
        self._batch_size = batch_size
        self._members, self._measures, self._weights = members, measures, weights
        self._model, self._tokenizer = model, copy.deepcopy(tokenizer)
        self._sources: dict[str, BoundTask | BoundScorer] = {}
        vocab_size = readable_tokens(model, tokenizer)
        with isolated_randomness():
            tasks = {key: source for key, source in sources.items() if isinstance(source, TaskItems)}
            if tasks:
                language_model, forward = self._wrapped(batch_size, model_options), Forward(model)
                language_model.limits = answer_limits
            for key, source in sources.items():
                self._sources[key] = (
                    BoundScorer(source, model, self._tokenizer)
                    if isinstance(source, ScorerItems)
                    else BoundTask(source, language_model, forward, batch_size=batch_size, vocab_size=vocab_size)
                )
        self._prompt = self._fixed_prompt(tasks.values(), vocab_size)

    def _wrapped(self, batch_size: int, options: Mapping[str, Any]) -> Any:
        from evomerge.evaluation import _lm_eval

        return _lm_eval.new_language_model(self._model, self._tokenizer, batch_size=batch_size, options=options)

    def _fixed_prompt(self, tasks: Iterable[TaskItems], vocab_size: int) -> list[int]:
        """Return the tokens of some prompt, always the same one, for the health check."""
        texts = (str(item.requests[0].arguments[0]) for task in tasks for item in task.items.values())
        tokens = self._tokenizer.encode(next((text for text in texts if text), "0"))
        return [token for token in tokens if token < vocab_size][:_PROMPT_TOKENS] or [0]

    def check(self) -> None:
        """Run one fixed prompt. Raises DegenerateModel when the logits are not finite, or constant."""
        check_logits(self._model, self._prompt)

    def score(self, items: Mapping[str, Sequence[int]]) -> dict[str, ItemScores]:
        """Score items with the weights as they are now.

        Every task's items are laid out in batches by themselves, in an order that depends on the set of items alone:
        the same items give the same bits, whatever their order and whatever else is scored. Global random numbers
        are left as they were.

        Args:
            items: objective -> distinct item numbers, not empty, of any of its pools.

        Returns: objective -> scores in the order of its numbers.
        Raises: DegenerateModel for non-finite or constant log-likelihoods; EvomergeError for an unknown objective or
            item, when task code or a scorer fails, and when a GPU's memory does not suffice.
        """
        try:
            return self._score(items)
        except torch.OutOfMemoryError as error:
            found = str(error).splitlines()[0]
        # The error is gone here, and with it the frames that held the activations; what is free can go back.
        gc.collect()
        torch.cuda.empty_cache()
        raise EvomergeError(f"the memory of the GPU is full; use a batch_size below {self._batch_size} ({found})")

    def _score(self, items: Mapping[str, Sequence[int]]) -> dict[str, ItemScores]:
        uses: dict[str, list[_Use]] = {}
        for objective, ids in items.items():
            for source, use in self._divided(objective, ids):
                uses.setdefault(source, []).append(use)
        # Log-likelihoods guard themselves; generated text and a scorer's numbers would hide a broken model.
        if any(isinstance(one, BoundScorer) or one.generates for one in (self._sources[key] for key in uses)):
            self.check()
        self.truncated = {}
        results: dict[str, dict[int, Any]] = {objective: {} for objective in items}
        for key, wanted in uses.items():
            with isolated_randomness():
                self._score_source(self._sources[key], wanted, results)
        return {
            objective: _item_scores(objective, self._measures.get(objective), ids, results[objective])
            if objective not in self._weights
            else _weighted(objective, self._measures[objective], ids, results[objective], self._weights[objective])
            for objective, ids in items.items()
        }

    def _divided(self, objective: str, ids: Sequence[int]) -> list[tuple[str, "_Use"]]:
        """Return what each source has to score for an objective. Raises EvomergeError."""
        if objective not in self._members:
            raise EvomergeError(f'there is no objective "{objective}" (there are: {", ".join(self._members)})')
        found: list[tuple[str, _Use]] = []
        unknown = set(ids)
        for member in self._members[objective]:
            first, known = member.numbers.start, self._sources[member.source].items
            own = [i - first for i in ids if i in member.numbers and i - first in known]
            unknown.difference_update(i + first for i in own)
            if own:
                found.append((member.source, _Use(objective, first, own)))
        if unknown or not ids or len(set(ids)) < len(ids):
            what = f"unknown: {sorted(unknown)[:5]}" if unknown else "none given" if not ids else "one is given twice"
            raise EvomergeError(f"{objective}: bad item numbers ({what})")
        return found

    def _score_source(
        self, source: BoundTask | BoundScorer, uses: Sequence["_Use"], results: Mapping[str, dict[int, Any]]
    ) -> None:
        """Score the union of the items that a source's objectives need, once, and file the results by objective."""
        ids = sorted({i for use in uses for i in use.ids})
        if isinstance(source, BoundScorer):
            values = source.values(ids)
            found: Sequence[Mapping[int, Any]] = [values for _ in uses]
        else:
            found = source.results(ids, [self._measures[use.objective] for use in uses])
        for use, result in zip(uses, found, strict=True):
            results[use.objective].update({use.first + i: result[i] for i in use.ids})
            if isinstance(source, BoundTask) and source.generates:
                cut, answers = self.truncated.get(use.objective, (0, 0))
                self.truncated[use.objective] = (cut + source.cut_answers, answers + source.answers)


@dataclass(frozen=True, slots=True)
class _Use:
    """What an objective needs of a source: the source's item numbers; `first` is added to them in the objective."""

    objective: str
    first: int
    ids: Sequence[int]


def _item_scores(name: str, measure: Measure | None, ids: Sequence[int], results: Mapping[int, Any]) -> ItemScores:
    """Turn numbers into values; without a measure they are a scorer's. Raises EvomergeError for no finite number."""
    if measure is None:
        return ItemScores(ids=tuple(ids), values=tuple(results[i] for i in ids))
    pairs = []
    for i in ids:
        try:
            pair = measure.value(results[i].raw)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise EvomergeError(f"{name}, item {i}: {measure.metric} is {results[i].raw!r}, not a number") from error
        if not abs(pair[0]) < float("inf"):
            raise EvomergeError(f"{name}, item {i}: {measure.metric} is {pair[0]}, not a finite number")
        pairs.append(pair)
    soft = [results[i].soft for i in ids]
    return ItemScores(
        ids=tuple(ids),
        values=tuple(value for value, _ in pairs),
        weights=tuple(weight for _, weight in pairs) if measure.weighted else None,
        soft=None if any(one is None for one in soft) else tuple(one for one in soft if one is not None),
    )


def _weighted(
    name: str, measure: Measure, ids: Sequence[int], results: Mapping[int, Any], weights: Mapping[int, float]
) -> ItemScores:
    """Turn numbers into values whose weights make every task of a group count the same."""
    return replace(_item_scores(name, measure, ids, results), weights=tuple(weights[i] for i in ids))
