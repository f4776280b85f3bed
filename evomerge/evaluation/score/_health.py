"""Is this merge a sane language model? Scores cannot tell: with NaN log-likelihoods argmax answers 0 every time,
which is a perfect score on a benchmark whose right answer is always the first.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from evomerge.errors import DegenerateModel
from evomerge.evaluation.score._inputs import input_device

_EQUAL = 1e-6  # log-likelihoods closer than this are equal
_MAX_UNIFORM = -0.5  # a model that is sure of every token has equal values near 0; no uniform one is above log(1/2)


def check_logits(model: Any, token_ids: Sequence[int]) -> None:
    """Run one fixed prompt and look at its logits.

    Args:
        model: a language model of transformers.
        token_ids: the prompt, at least one token.

    Raises:
        DegenerateModel: a logit is not finite, or the logits of a position are all equal.
    """
    import torch

    with torch.inference_mode():
        ids = torch.tensor([list(token_ids)], dtype=torch.long, device=input_device(model))
        decoder = {"decoder_input_ids": ids} if getattr(model.config, "is_encoder_decoder", False) else {}
        logits = model(input_ids=ids, **decoder).logits[0].float()  # (tokens, vocabulary)
        # A vocabulary padded with -inf is some models' own choice; NaN and +inf are nobody's.
        broken = logits.isnan().any() | logits.isposinf().any() | logits.isneginf().all(-1).any()
        spread = logits.amax(-1) - logits.amin(-1)
    if bool(broken):
        raise DegenerateModel("its logits are not finite")
    if bool((spread <= _EQUAL).any()):
        raise DegenerateModel("its logits are constant: every token is equally likely")


def check_values(name: str, item: int, values: Iterable[float]) -> None:
    """Raise DegenerateModel when a log-likelihood of an item is not finite."""
    for value in values:
        if not math.isfinite(value):
            raise DegenerateModel(f"{name}, item {item}: a log-likelihood is {value}")


def check_varied(name: str, choices: Sequence[float], tokens: Sequence[tuple[int, float]]) -> None:
    """Raise DegenerateModel when the model treats everything alike.

    Args:
        name: of the task, for the message.
        choices: log-likelihood of every choice of every multiple-choice item, or empty.
        tokens: (token, log-likelihood) of everything scored.
    """
    if len(choices) > 1 and max(choices) - min(choices) <= _EQUAL and max(choices) <= _MAX_UNIFORM:
        raise DegenerateModel(f"{name}: constant: every choice of every item is equally likely")
    values = [value for _, value in tokens]
    if len({token for token, _ in tokens}) > 1 and max(values) - min(values) <= _EQUAL and max(values) <= _MAX_UNIFORM:
        raise DegenerateModel(f"{name}: constant: every token is equally likely")
