"""What is asked of whoever writes answers: `Prompt` in, `Answer` out, by a `Generator`.

Tasks, stop strings and metrics are on this side of it, weights and caches on the other. A prompt is the token ids that
lm-eval's own wrapper of transformers gives the model, so that every generator reads the same ones.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One text to continue.

    Attributes:
        text: as the task wrote it.
        tokens: its ids, special ones included, cut from the left to what leaves tokens for the answer.
        stops: texts that end an answer; the text of the tokenizer's end token is one of them. The answer need not end
            right there: what follows is cut off afterwards.
        max_tokens: of the answer.
        settings: of generation, for this prompt, named as transformers does ("do_sample": False); whatever they do not
            name is as the model's own generation settings say.
    """

    text: str
    tokens: tuple[int, ...]
    stops: tuple[str, ...]
    max_tokens: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model wrote.

    Attributes:
        tokens: without those of the prompt; what ended it may be among them.
        ended: whether an end token or a stop string ended it; else it was cut off at its length.
    """

    tokens: tuple[int, ...]
    ended: bool


class Generator(Protocol):
    """Writes answers with the weights that a model holds at the moment.

    The same prompts and weights give the same answers: nothing depends on the clock, on what was generated before or,
    beyond what a prompt's settings say, on random numbers.
    """

    @property
    def notes(self) -> Collection[str]:
        """Sentences on how answers are written, which a run's log says once."""
        ...

    def generate(self, prompts: Sequence[Prompt], deadline: float) -> Iterator[tuple[int, Answer]]:
        """Yield (index of a prompt, answer), each once, in any order, as early as it is finished.

        Args:
            prompts: longest first.
            deadline: on the clock of `time.monotonic`; once it has passed, the answers that are not finished are left
                out. Infinite = none.
        """
        ...


class OutsideGenerator(Generator, Protocol):
    """Writes answers with weights of its own, which somebody else sees to."""

    def check_logits(self, tokens: Sequence[int]) -> None:
        """Run one prompt, where nobody else can.

        Args:
            tokens: of the prompt, at least one.

        Raises:
            DegenerateModel: a log-likelihood is not finite, or every token is equally likely.
        """
        ...

    def take_tokens(self) -> int:
        """Return how many tokens were read and written since the last call."""
        ...
