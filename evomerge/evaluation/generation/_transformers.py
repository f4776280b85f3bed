"""Answers by transformers: a batch that stays full where that is known to be right, else its own `generate`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.evaluation.generation._decoding import Decoding, decoding_of
from evomerge.evaluation.generation._plain import PlainGenerator
from evomerge.evaluation.generation._protocol import Answer, Prompt
from evomerge.evaluation.generation._refill import RefillGenerator
from evomerge.evaluation.generation._stops import StopStrings

_BY_CHOICE = "one row a batch"


class TransformersGenerator:
    """A `Generator` for one model object of transformers.

    Attributes:
        notes: sentences on prompts that `generate` answers, batch by batch.
    """

    def __init__(self, language_model: Any, *, batch_size: int, takes_rows: bool):
        """Note what to run.

        Args:
            language_model: lm-eval's wrapper of the model (see `_lm_eval.new_language_model`).
            batch_size: most rows of a forward pass. 1 = `generate` alone, whose answers are lm-eval's to the last bit.
            takes_rows: whether the model takes masks, positions and a cache as they are given.
        """
        self._lm = language_model
        self._plain = PlainGenerator(language_model, batch_size=batch_size)
        self._refill: RefillGenerator | None = None
        self.notes: set[str] = set()
        self._reason = ""
        if batch_size == 1:
            self._reason = _BY_CHOICE
        elif language_model.backend != "causal":
            self._reason = "the model has an encoder"
        elif language_model.mixed_precision_dtype is not None:
            self._reason = "lm-eval's option mixed_precision_dtype is set"
        elif not takes_rows:
            family = language_model.model.config.model_type
            self._reason = f"the family {family}, or its attention, is not known to take a cache and masks of others"
        else:
            model, stops = language_model.model, StopStrings(language_model.tokenizer)
            self._refill = RefillGenerator(model, stops, device=language_model.device, batch_size=batch_size)

    def generate(self, prompts: Sequence[Prompt], deadline: float) -> Iterator[tuple[int, Answer]]:
        """Yield (index of a prompt, answer) (see `Generator`); equal prompts with greedy answers are answered once."""
        alike: dict[str, list[int]] = {}
        for index, prompt in enumerate(prompts):
            alike.setdefault(repr(sorted(prompt.settings.items())), []).append(index)
        for numbers in alike.values():
            decoding = self._decoding(prompts[numbers[0]].settings)
            if decoding is None or self._refill is None:
                found = self._plain.generate([prompts[number] for number in numbers], deadline)
                yield from ((numbers[index], answer) for index, answer in found)
                continue
            same: dict[tuple[Any, ...], list[int]] = {}
            for number in numbers:
                prompt = prompts[number]
                same.setdefault((prompt.tokens, prompt.stops, prompt.max_tokens), []).append(number)
            copies = list(same.values())
            found = self._refill.generate([prompts[own[0]] for own in copies], decoding, deadline)
            yield from ((number, answer) for index, answer in found for number in copies[index])

    def _decoding(self, settings: Mapping[str, Any]) -> Decoding | None:
        """Return how tokens are chosen; None, and a note, where `generate` has to do it."""
        reason = self._reason or decoding_of(self._lm.model, settings, self._lm.tokenizer.pad_token_id)
        if isinstance(reason, Decoding):
            return reason
        if reason is not _BY_CHOICE:
            self.notes.add(f"answers are generated in fixed batches, which takes longer: {reason}")
        return None
