"""What a gradient is taken of: the log-likelihood of the right answers, bounded below.

An answer's log-likelihood counts as its sum over up to `SHORT_TOKENS` tokens; a longer answer counts as that many times
its mean, so that one long answer does not outweigh all short ones. Below `FLOOR_NATS` its slope is a tenth: answers
that are out of reach should not pull at the weights, and yet must not be without any slope.
"""

from collections.abc import Sequence

import torch

SHORT_TOKENS = 8
FLOOR_NATS = -8.0
SLOPE_BELOW = 0.1


class GoldObjective:
    """The weighted sum of answers' log-likelihoods over the batches of a plan."""

    def __init__(self, order: torch.Tensor, lengths: Sequence[int], weights: Sequence[float]):
        """Note which scored token belongs to which answer.

        Args:
            order: (N,) for the scored tokens of all pairs in turn, where they stand among those of all batches.
            lengths: number of tokens of each pair.
            weights: of each pair; 0 = not a right answer.
        """
        device = order.device
        length_P = torch.tensor(lengths, device=device)
        self._pair_N = torch.empty_like(order)
        self._pair_N[order] = torch.repeat_interleave(torch.arange(len(lengths), device=device), length_P)
        self._weight_P = torch.tensor(weights, dtype=torch.float32, device=device)
        self._share_P = (SHORT_TOKENS / length_P.float()).clamp(max=1.0)
        self._done = 0

    def backward(self, value_N: torch.Tensor) -> None:
        """Take the gradient of one batch's part of the sum.

        Args:
            value_N: log-likelihoods of the batch's scored tokens, with their graph.
        """
        pair_N = self._pair_N[self._done : self._done + len(value_N)].to(value_N.device)
        self._done += len(value_N)
        weight_P = self._weight_P.to(value_N.device)
        if not bool((weight_P[pair_N] != 0).any()):
            return
        sum_P = torch.zeros_like(weight_P).index_add(0, pair_N, value_N) * self._share_P.to(value_N.device)
        bounded_P = torch.where(sum_P > FLOOR_NATS, sum_P, FLOOR_NATS + SLOPE_BELOW * (sum_P - FLOOR_NATS))
        here_P = torch.zeros_like(weight_P, dtype=torch.bool)
        here_P[pair_N] = True
        part = (weight_P * bounded_P)[here_P].sum()
        if part.requires_grad:  # else no requested weight takes part in it
            part.backward()
