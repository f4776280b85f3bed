"""Answers by a vLLM engine, which holds the same weights as the live model, or holds them in its place."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evomerge.engine.vllm import TokenRequest, VllmEngines
from evomerge.evaluation.generation._protocol import Answer, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class VllmGenerator:
    """Passes prompts on to whichever engine was loaded last.

    Attributes:
        notes: none.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, engines: VllmEngines, model: "PreTrainedModel"):
        """Note where answers come from.

        Args:
            engines: which have the candidate's weights by the time of `generate`.
            model: whose generation settings hold where a prompt says nothing.
        """
        self._engines, self._model, self._tokens = engines, model, 0

    def generate(self, prompts: Sequence[Prompt], deadline: float) -> Iterator[tuple[int, Answer]]:
        """Yield (index of a prompt, answer), each as it is finished (see `Generator`)."""
        own = self._model.generation_config.to_dict()
        requests = [
            TokenRequest(
                tokens=prompt.tokens,
                max_tokens=prompt.max_tokens,
                stops=prompt.stops,
                settings={**own, **prompt.settings},
            )
            for prompt in prompts
        ]
        for index, tokens, ended in self._engines.answers(requests, deadline):
            self._tokens += len(prompts[index].tokens) + len(tokens)
            yield index, Answer(tokens=tokens, ended=ended)

    def check_logits(self, tokens: Sequence[int]) -> None:
        """Raise DegenerateModel for a model whose numbers are not finite or constant."""
        self._engines.check_logits(tokens)

    def take_tokens(self) -> int:
        """Return how many tokens were read and written since the last call."""
        taken, self._tokens = self._tokens, 0
        return taken
