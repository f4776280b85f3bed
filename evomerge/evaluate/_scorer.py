"""The scorer of a worker: item numbers in, item scores out, for whatever weights the model holds now."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.errors import EvomergeError, InvalidInput
from evomerge.evaluate._bound import BoundTask, ItemResult
from evomerge.evaluate._forward import Forward
from evomerge.evaluate._health import check_logits
from evomerge.evaluate._items import ScorerItems, TaskItems
from evomerge.evaluate._metrics import Measure
from evomerge.evaluate._python import BoundScorer
from evomerge.evaluate._random import isolated_randomness
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
        source_of: Mapping[str, str],
        measures: Mapping[str, Measure],
        model_options: Mapping[str, Any],
        model: Any,
        tokenizer: Any,
        batch_size: int,
    ):
        if batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size}, expected at least 1")
        self.truncated: dict[str, tuple[int, int]] = {}
        self._source_of, self._measures = source_of, measures
        self._model, self._tokenizer = model, copy.deepcopy(tokenizer)
        self._sources: dict[str, BoundTask | BoundScorer] = {}
        vocab_size = _rows(model, tokenizer)
        with isolated_randomness():
            tasks = {key: source for key, source in sources.items() if isinstance(source, TaskItems)}
            if tasks:
                language_model, forward = self._wrapped(batch_size, model_options), Forward(model)
            for key, source in sources.items():
                self._sources[key] = (
                    BoundScorer(source, model, self._tokenizer)
                    if isinstance(source, ScorerItems)
                    else BoundTask(source, language_model, forward, batch_size=batch_size, vocab_size=vocab_size)
                )
        self._prompt = self._fixed_prompt(tasks.values(), vocab_size)

    def _wrapped(self, batch_size: int, options: Mapping[str, Any]) -> Any:
        from evomerge.evaluate import _lm_eval

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
            item, and when task code or a scorer fails.
        """
        wanted: dict[str, list[str]] = {}
        for objective, ids in items.items():
            self._check_request(objective, ids)
            wanted.setdefault(self._source_of[objective], []).append(objective)
        # Log-likelihoods guard themselves; generated text and a scorer's numbers would hide a broken model.
        if any(isinstance(one, BoundScorer) or one.generates for one in (self._sources[key] for key in wanted)):
            self.check()
        self.truncated = {}
        scores: dict[str, ItemScores] = {}
        for key, objectives in wanted.items():
            ids = sorted({i for objective in objectives for i in items[objective]})
            with isolated_randomness():
                scores |= self._score_source(self._sources[key], objectives, ids, items)
        return {objective: scores[objective] for objective in items}

    def _check_request(self, objective: str, ids: Sequence[int]) -> None:
        if objective not in self._source_of:
            raise EvomergeError(f'there is no objective "{objective}" (there are: {", ".join(self._source_of)})')
        known = self._sources[self._source_of[objective]].items
        unknown = [i for i in ids if i not in known]
        if unknown or not ids or len(set(ids)) < len(ids):
            what = f"unknown: {unknown[:5]}" if unknown else "none given" if not ids else "one is given twice"
            raise EvomergeError(f"{objective}: bad item numbers ({what})")

    def _score_source(
        self,
        source: BoundTask | BoundScorer,
        objectives: Sequence[str],
        ids: Sequence[int],
        items: Mapping[str, Sequence[int]],
    ) -> dict[str, ItemScores]:
        """Score the union of the items that a task's objectives need, once."""
        if isinstance(source, BoundScorer):
            values = source.values(ids)
            return {
                name: ItemScores(ids=tuple(items[name]), values=tuple(values[i] for i in items[name]))
                for name in objectives
            }
        results = source.results(ids, [self._measures[name] for name in objectives])
        if source.generates:
            self.truncated |= dict.fromkeys(objectives, (source.cut_answers, source.answers))
        return {
            name: _item_scores(name, self._measures[name], items[name], result)
            for name, result in zip(objectives, results, strict=True)
        }


def _item_scores(name: str, measure: Measure, ids: Sequence[int], results: Mapping[int, ItemResult]) -> ItemScores:
    """Turn a task's numbers into values. Raises EvomergeError for what is no finite number."""
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


def _rows(model: Any, tokenizer: Any) -> int:
    """Return the number of tokens that a model can read."""
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return embedding.weight.shape[0] if embedding is not None else len(tokenizer)
