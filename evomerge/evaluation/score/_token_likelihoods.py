"""Log-likelihoods of tokens from logits, in float32 chunks, with a backward pass that skips what has no weight.

Letters: P predictions (all rows and kept columns), U those of them that are used, N scored tokens, V vocabulary.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Numbers turned to float32 at a time: what stays in a CPU's cache, or keeps a GPU busy.
_CHUNK_NUMBERS = {"cpu": 2**18, "cuda": 2**25}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTokens:
    """Which tokens are scored by which prediction of a batch.

    Attributes:
        position: (U,) of a used prediction among all, each once.
        target: (N,) the tokens.
        source: (N,) which used prediction scores a token, ascending.
        source_numbers: the same as numbers.
    """

    position: torch.Tensor
    target: torch.Tensor
    source: torch.Tensor
    source_numbers: Sequence[int]

    def chunks(self, step: int) -> Iterator[tuple[slice, slice]]:
        """Yield (used predictions, tokens that they score), `step` predictions at a time."""
        first = 0
        for start in range(0, len(self.position), step):
            last = bisect_left(self.source_numbers, start + step)
            yield slice(start, start + step), slice(first, last)
            first = last


def token_likelihoods(logits_PV: torch.Tensor, scored: ScoredTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-likelihood of each token, (N,) float32, and whether it is the first choice, (N,) bool."""
    found: tuple[torch.Tensor, torch.Tensor] = _TokenLikelihoods.apply(logits_PV, scored)
    return found


class _TokenLikelihoods(torch.autograd.Function):
    """Keeps the logits alone for the way back, where the softmax is taken once more.

    Autograd would keep every chunk in float32, and write zeros for all logits once for each chunk.
    """

    @staticmethod
    def forward(ctx: Any, logits_PV: torch.Tensor, scored: ScoredTokens) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(logits_PV)
        ctx.scored = scored
        values, greedy = [], []
        for used, tokens in scored.chunks(_step(logits_PV)):
            logits_UV = logits_PV.index_select(0, scored.position[used]).float()
            row_N, target_N = scored.source[tokens] - used.start, scored.target[tokens]
            values.append(logits_UV.log_softmax(1)[row_N, target_N])
            greedy.append(_first_choice(logits_UV, row_N, target_N))
        value_N, greedy_N = torch.cat(values), torch.cat(greedy)
        ctx.mark_non_differentiable(greedy_N)
        return value_N, greedy_N

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (logits_PV,), scored, gradient_N = ctx.saved_tensors, ctx.scored, gradients[0].float()
        found_PV = torch.zeros_like(logits_PV)
        weighted_N = gradient_N != 0
        for _, tokens in scored.chunks(_step(logits_PV)):
            here_N = weighted_N[tokens].nonzero()[:, 0]
            if not len(here_N):
                continue
            source_N, target_N = scored.source[tokens][here_N], scored.target[tokens][here_N]
            source_U, row_N = source_N.unique(return_inverse=True)
            part_N = gradient_N[tokens][here_N]
            position_U = scored.position[source_U]
            slope_UV = logits_PV.index_select(0, position_U).float().softmax(1)
            sum_U = torch.zeros(len(source_U), device=part_N.device).index_add_(0, row_N, part_N)
            slope_UV.mul_(-sum_U[:, None]).index_put_((row_N, target_N), part_N, accumulate=True)
            found_PV[position_U] = slope_UV.to(found_PV.dtype)
        return found_PV, None


def _step(logits_PV: torch.Tensor) -> int:
    """Return how many predictions are worked on at a time."""
    return max(1, _CHUNK_NUMBERS.get(logits_PV.device.type, 2**25) // logits_PV.shape[-1])


def _first_choice(logits_UV: torch.Tensor, row_N: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Return whether each target is the argmax. On CPU the slow argmax is left to the few that reach the maximum."""
    if logits_UV.device.type != "cpu":
        return logits_UV.argmax(1)[row_N] == target_N
    first_N = logits_UV[row_N, target_N] == logits_UV.amax(1)[row_N]
    reaching = first_N.nonzero()[:, 0]
    first_N[reaching] = logits_UV[row_N[reaching]].argmax(1) == target_N[reaching]
    return first_N
