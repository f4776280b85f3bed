"""The scorer of a worker: item numbers in, item scores out, for whatever weights the model holds now."""

import copy
import gc
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING

import torch

from evomerge.errors import EvomergeError, InvalidInput, MemoryFull, first_line
from evomerge.evaluation._evaluator import BoundTasks, Evaluator, GeneratingEvaluator, GoldTasks, memory_is_full
from evomerge.evaluation._model_guard import settings_restored, weights_guarded
from evomerge.evaluation._prepared import Prepared
from evomerge.evaluation._rng import isolated_randomness
from evomerge.evaluation.score import check_logits, counted_tokens, has_weights, readable_tokens
from evomerge.records import ItemScores
from evomerge.stats import set_sums

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.evaluation.generation import OutsideGenerator

_MAX_PROMPT_TOKENS = 32  # of the health check


class Scorer:
    """Prepared items bound to one model object.

    Attributes:
        tokens: that went through the model in the last call of `score`, padding included.
        begun: items that evaluators were given in the last call of `score`, also where it failed.
    """

    def __init__(
        self,
        prepared: Prepared,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        generator: "OutsideGenerator | None" = None,
    ):
        """Bind each evaluator's tasks to the model (see `Prepared.scorer`)."""
        if batch_size < 1:
            raise InvalidInput(f"batch_size is {batch_size}, expected at least 1")
        self._tasks, self._batch_size = prepared.tasks, batch_size
        self._known = {name: frozenset(chain(*task.pools.values())) for name, task in prepared.tasks.items()}
        self.tokens = self.begun = 0
        self._generator = generator
        self._model, tokenizer = model, copy.deepcopy(tokenizer)
        self._bound: list[tuple[Evaluator, tuple[str, ...], BoundTasks]] = []
        with isolated_randomness():
            for evaluator, tasks in prepared.groups():
                if isinstance(evaluator, GeneratingEvaluator):
                    bound = evaluator.bind(tasks, model, tokenizer, batch_size=batch_size, generator=generator)
                else:
                    bound = evaluator.bind(tasks, model, tokenizer, batch_size=batch_size)
                self._bound.append((evaluator, tuple(tasks), bound))
        text = next((task.prompt for task in prepared.tasks.values() if task.prompt), "0")
        vocab_size = readable_tokens(model, tokenizer)
        tokens = [token for token in tokenizer.encode(text) if token < vocab_size]
        self._prompt = tokens[:_MAX_PROMPT_TOKENS] or [0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how the items of the calls so far were scored, from evaluators that have something to say."""
        return tuple(sorted({note for _, _, bound in self._bound for note in getattr(bound, "notes", ())}))

    def has_gold(self, objectives: Iterable[str]) -> bool:
        """Tell whether every one of these objectives has right answers whose log-likelihood is worth following."""
        names = set(objectives)
        return all(
            isinstance(bound, GoldTasks) and bound.has_gold(names.intersection(own))
            for _, own, bound in self._bound
            if names.intersection(own)
        )

    def score(
        self, items: Mapping[str, Sequence[int]], gold: Mapping[str, float] | None = None
    ) -> dict[str, ItemScores]:
        """Score items with the weights as they are now.

        The same items give the same bits, whatever their order and whatever else is scored. Global random numbers and
        the model's settings (training mode, config, how it generates) are left as they were.

        Args:
            items: objective -> distinct item numbers, not empty, of any of its pools.
            gold: objective -> weight; the gradient of the weighted sum of the objectives' mean log-likelihoods of right
                answers is taken on the way (see `has_gold`; those of weight 0 need none). None = no gradient.

        Returns:
            objective -> scores in the order of its numbers.

        Raises:
            DegenerateModel: log-likelihoods or logits are not finite, or constant.
            ModelChanged: an evaluator changed the weights or modules; the model must not be used again.
            MemoryFull: the device's memory does not suffice.
            EvomergeError: an objective or item is unknown, or an evaluator fails.
        """
        self.tokens = self.begun = 0
        try:
            with counted_tokens(self._model) as counter:
                scores = self._score(items, gold)
            self.tokens = counter.tokens + (0 if self._generator is None else self._generator.take_tokens())
            return scores
        except Exception as error:
            if not memory_is_full(error):
                raise
            found = first_line(error)
        # The error is gone here, and with it the frames that held the activations; what is free can go back.
        gc.collect()
        torch.cuda.empty_cache()
        place = "GPU" if self._model.device.type == "cuda" else "machine"
        raise MemoryFull(f"the memory of the {place} is full; use a batch_size below {self._batch_size} ({found})")

    def _score(self, items: Mapping[str, Sequence[int]], gold: Mapping[str, float] | None) -> dict[str, ItemScores]:
        for name, ids in items.items():
            self._check_numbers(name, ids)
        if not all(self._tasks[name].guards_itself for name in items):
            if self._generator is not None and not has_weights(self._model):
                self._generator.check_logits(self._prompt)
            else:
                check_logits(self._model, self._prompt)
        found: dict[str, ItemScores] = {}
        for evaluator, names, bound in self._bound:
            wanted = {name: items[name] for name in names if name in items}
            if not wanted:
                continue
            self.begun += sum(len(ids) for ids in wanted.values())
            with isolated_randomness(), settings_restored(self._model), self._guard(evaluator):
                if gold is None or not isinstance(bound, GoldTasks):
                    scores = bound.score(wanted)
                else:
                    scores = bound.score(wanted, gold)
            found |= {name: _in_order(name, evaluator.name, ids, scores.get(name)) for name, ids in wanted.items()}
        return {name: found[name] for name in items}

    def _guard(self, evaluator: Evaluator) -> AbstractContextManager[None]:
        """Return the context in which an evaluator's own code may run."""
        return (
            nullcontext() if evaluator.only_reads else weights_guarded(self._model, f"the evaluator {evaluator.name}")
        )

    def _check_numbers(self, name: str, ids: Sequence[int]) -> None:
        """Raise EvomergeError for an objective or an item that does not exist, and for an item given twice."""
        if name not in self._tasks:
            raise EvomergeError(f'there is no objective "{name}" (there are: {", ".join(self._tasks)})')
        unknown = set(ids) - self._known[name]
        if unknown or not ids or len(set(ids)) < len(ids):
            what = f"unknown: {sorted(unknown)[:5]}" if unknown else "none given" if not ids else "one is given twice"
            raise EvomergeError(f"{name}: bad item numbers ({what})")


def _in_order(name: str, evaluator: str, ids: Sequence[int], scores: ItemScores | None) -> ItemScores:
    """Return an evaluator's scores in the order of some item numbers.

    Raises:
        EvomergeError: they are not one finite number for each item.
    """
    if not isinstance(scores, ItemScores) or sorted(scores.ids) != sorted(ids):
        raise EvomergeError(f"{name}: the evaluator {evaluator} did not return scores of exactly the items given")
    columns = [scores.values, scores.weights, scores.soft]
    for column in columns:
        if column is None:
            continue
        if len(column) != len(ids):
            raise EvomergeError(
                f"{name}: the evaluator {evaluator} returned {len(column)} numbers for {len(ids)} items"
            )
        for i, value in zip(scores.ids, column, strict=True):
            if not math.isfinite(value):
                raise EvomergeError(
                    f"{name}, item {i}: the evaluator {evaluator} returned {value}, not a finite number"
                )
    if scores.parts is not None:
        try:
            set_sums([scores])
        except InvalidInput as error:
            raise EvomergeError(f"{name}: the evaluator {evaluator} returned wrong parts: {error}") from error
    if scores.ids == tuple(ids):
        return scores
    position = {i: column for column, i in enumerate(scores.ids)}
    return scores.at([position[i] for i in ids])
