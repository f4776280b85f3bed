"""A task's generated answers in the order of the prompts, or the reason why there is no score."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from evomerge.errors import DegenerateModel, EvomergeError
from evomerge.evaluation._items import AnswerLimits
from evomerge.evaluation.generation._protocol import Generator, Prompt

_MIN_JUDGED_ANSWERS = 8  # of fewer, any share may be cut
_SHORT_ANSWER_TOKENS = 32  # shorter answers may well fill their length

Read = TypeVar("Read")


def generated_answers(
    name: str,
    prompts: Sequence[Prompt],
    generator: Generator,
    limits: AnswerLimits,
    read: Callable[[Prompt, Sequence[int]], Read],
) -> list[Read]:
    """Return each prompt's answer.

    Args:
        name: of the task, for messages.
        prompts: in any order.
        generator: writes the answers.
        limits: of the answers.
        read: turns an answer's tokens into what is returned, such as the text that the task reads.

    Raises:
        DegenerateModel: too many answers reach their length; raised as soon as they do.
        EvomergeError: the time is over. Answers that the clock cut must not become a score.
    """
    # lm-eval's order, in which sampled answers have their random numbers.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].tokens), prompts[i].text))
    deadline = time.monotonic() + (limits.seconds or math.inf)
    max_cut = limits.cut * len(prompts) if len(prompts) >= _MIN_JUDGED_ANSWERS else math.inf
    answers: dict[int, Read] = {}
    cut = 0
    for index, answer in generator.generate([prompts[i] for i in order], deadline):
        prompt = prompts[order[index]]
        answers[order[index]] = read(prompt, answer.tokens)
        cut += not answer.ended
        if prompt.max_tokens >= _SHORT_ANSWER_TOKENS and cut > max_cut:
            raise DegenerateModel(
                f"{name}: it does not stop: more than {limits.cut:.0%} of its answers "
                f"(lm_eval: max_cut_answers) reach {prompt.max_tokens} tokens"
            )
        if deadline < time.monotonic():
            break
    if len(answers) < len(prompts):
        raise EvomergeError(
            f"{name}: its answers took longer than {limits.seconds:g} seconds "
            f"(lm_eval: max_gen_seconds); {len(prompts) - len(answers)} of {len(prompts)} were cut off"
        )
    return [answers[i] for i in range(len(prompts))]
