"""Answers by transformers' own `generate`, batch by batch: for every model and every setting that it knows."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from evomerge.evaluation.generation._protocol import Answer, Prompt


class PlainGenerator:
    """Runs batches of prompts with equal settings until the last of their answers ends, as lm-eval does."""

    def __init__(self, language_model: Any, *, batch_size: int):
        """Note what runs them.

        Args:
            language_model: lm-eval's wrapper (see `_lm_eval.new_language_model`).
            batch_size: most rows of a batch.
        """
        self._lm, self._batch_size = language_model, batch_size

    def generate(self, prompts: Sequence[Prompt], deadline: float) -> Iterator[tuple[int, Answer]]:
        """Yield (index of a prompt, answer), batch by batch (see `Generator`)."""
        alike: dict[str, list[int]] = {}
        for index, prompt in enumerate(prompts):
            settings = sorted(prompt.settings.items())
            alike.setdefault(repr((prompt.stops, prompt.max_tokens, settings)), []).append(index)
        for numbers in alike.values():
            for first in range(0, len(numbers), self._batch_size):
                batch = numbers[first : first + self._batch_size]
                answers = self._answers([prompts[i] for i in batch], deadline)
                yield from ((i, answer) for i, answer in zip(batch, answers, strict=True) if answer)
                if None in answers or time.monotonic() > deadline:
                    return

    def _answers(self, prompts: list[Prompt], deadline: float) -> list[Answer | None]:
        """Return a batch's answers; None for those that the clock has cut."""
        seconds = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
        rows = self._lm.continued(prompts, seconds)
        # Below its length, a batch with an unfinished answer was stopped by the clock.
        full = max(map(len, rows)) >= prompts[0].max_tokens
        answers = [Answer(tokens=tuple(row), ended=self._lm.has_ended(row, prompts[0].stops)) for row in rows]
        return [answer if answer.ended or full else None for answer in answers]
