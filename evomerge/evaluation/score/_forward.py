"""Log-likelihoods of continuations under a live model, with few forward passes and small logits.

Works on any causal language model of transformers: it passes token ids and, where the model's forward knows it,
`logits_to_keep`; soft-capping and logit scaling stay the model's own business. Masks, positions and a cache are passed
only to families that are known to take them (see `_model_family.py`). Log-softmax is taken in float32.
"""

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from evomerge.evaluation.generation import repeated
from evomerge.evaluation.score._batching import Batch, BatchPlan
from evomerge.evaluation.score._gold import GoldObjective
from evomerge.evaluation.score._inputs import is_spread
from evomerge.evaluation.score._model_family import sharing_of
from evomerge.evaluation.score._token_likelihoods import ScoredTokens, token_likelihoods
from evomerge.evaluation.score._tree_attention import CausalBlocks, helps

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLikelihood:
    """How likely a continuation is.

    Attributes:
        tokens: log-likelihood of each of its tokens.
        greedy: whether each is the model's first choice.
    """

    tokens: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-likelihood of the continuation."""
        return sum(self.tokens)


class Forward:
    """Runs plans through one model object, whose weights may change between calls."""

    def __init__(self, model: "PreTrainedModel"):
        self.model = model
        self.sharing = sharing_of(model)
        known = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in known
        self._spread = is_spread(model)
        catches_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        self._fixed = {"use_cache": False} if catches_all or "use_cache" in known else {}

    def run(self, plan: BatchPlan, gold: GoldObjective | None = None) -> list[LogLikelihood]:
        """Return the log-likelihoods of the plan's pairs, in the order in which they were given.

        Args:
            plan: the batches; without a prefix where `gold` is given.
            gold: what to take the gradient of, batch by batch; None = nothing.
        """
        with torch.inference_mode() if gold is None else torch.enable_grad():
            return self._run(plan, gold)

    def _run(self, plan: BatchPlan, gold: GoldObjective | None) -> list[LogLikelihood]:
        prefix = self._read(plan.prefix) if plan.prefix is not None else None
        values: list[torch.Tensor] = []
        greedy: list[torch.Tensor] = []
        for batch in plan.batches:
            mask = self._mask(batch, prefix)
            # Not where a gradient is taken: the backward pass of attention in blocks takes twice as long.
            blocks = gold is None and mask is not None and helps(mask)
            with CausalBlocks(mask) if blocks else nullcontext():
                value_N, greedy_N = self._score(batch, self._logits(batch, prefix, mask))
            if gold is not None:
                gold.backward(value_N)
            values.append(value_N.detach())
            greedy.append(greedy_N)
        value_N, greedy_N = torch.cat(values), torch.cat(greedy)
        order_N = plan.order.to(value_N.device)
        # One transfer for the whole plan: a read-out per pair would wait for the device each time.
        numbers, firsts = iter(value_N[order_N].tolist()), iter(greedy_N[order_N].tolist())
        return [
            LogLikelihood(tokens=tuple(islice(numbers, length)), greedy=all(list(islice(firsts, length))))
            for length in plan.lengths
        ]

    def _read(self, ids_1P: torch.Tensor) -> Any:
        """Return the cache of keys and values of a prefix."""
        from transformers import DynamicCache

        extra = {"logits_to_keep": 1} if self._keeps else {}
        return self.model(input_ids=ids_1P, past_key_values=DynamicCache(), use_cache=True, **extra).past_key_values

    def _mask(self, batch: Batch, prefix: Any) -> torch.Tensor | None:
        """Return the mask of a batch with trees."""
        if batch.segments is None:
            return None
        return _tree_mask(batch.segments, 0 if prefix is None else prefix.get_seq_length(), self.model.dtype)

    def _logits(self, batch: Batch, prefix: object, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the logits of a batch at the kept positions, or at all where the model cannot choose."""
        extra: dict[str, Any] = dict(self._fixed)
        if self._keeps:
            # It indexes hidden states on the last device of a spread model, where a tensor would be on the first.
            extra["logits_to_keep"] = batch.keep.tolist() if self._spread else batch.keep
        if prefix is not None:
            extra |= {"past_key_values": repeated(prefix, len(batch.ids)), "use_cache": True}
        if mask is not None:
            extra |= {"attention_mask": mask, "position_ids": batch.positions}
        return self.model(input_ids=batch.ids, **extra).logits

    def _score(self, batch: Batch, logits_RKV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-likelihood of each of a batch's tokens, and whether it is the first choice."""
        device = logits_RKV.device
        column_U = batch.column if self._keeps else batch.keep[batch.column]
        scored = ScoredTokens(
            position=(batch.row * logits_RKV.shape[1] + column_U).to(device),
            target=batch.target.to(device),
            source=batch.source.to(device),
            source_numbers=batch.source_numbers,
        )
        return token_likelihoods(logits_RKV.flatten(0, 1), scored)


def _tree_mask(segments_RW: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask (R, 1, W, prefix + W): a token sees the prefix, its trunk and its own branch so far."""
    rows, width = segments_RW.shape
    same = segments_RW[:, :, None] == segments_RW[:, None, :]
    hidden = ~((segments_RW[:, None, :] == 0) | same).tril()
    mask = torch.zeros(rows, 1, width, prefix + width, dtype=dtype, device=segments_RW.device)
    mask[:, 0, :, prefix:].masked_fill_(hidden, torch.finfo(dtype).min)
    return mask
