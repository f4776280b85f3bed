"""Log-likelihoods of continuations under a live model, with few forward passes and small logits.

Works on any causal language model of transformers: it passes token ids and, where the model's forward knows it,
`logits_to_keep`; soft-capping and logit scaling stay the model's own business. Masks, positions and a cache are passed
only to families that are known to take them (see `_family.py`). Log-softmax is taken in float32.
"""

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.evaluate._family import sharing_of
from evomerge.evaluate._layout import Batch, Plan

# Numbers turned to float32 at a time: what stays in a processor's cache, or keeps a GPU busy.
_CHUNK = {"cpu": 2**19, "cuda": 2**25}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLikelihood:
    """tokens: log-likelihood of each continuation token. greedy: whether each is the model's first choice."""

    tokens: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-likelihood of the continuation."""
        return sum(self.tokens)


class Forward:
    """Runs plans through one model object, whose weights may change between calls."""

    def __init__(self, model: Any):
        self.model = model
        self.sharing = sharing_of(model)
        known = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in known
        catches_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        self._fixed = {"use_cache": False} if catches_all or "use_cache" in known else {}

    @torch.inference_mode()
    def run(self, plan: Plan) -> list[LogLikelihood]:
        """Return the log-likelihoods of the plan's pairs, in the order in which they were given."""
        prefix = self._read(plan.prefix) if plan.prefix is not None else None
        values: list[torch.Tensor] = []
        greedy: list[torch.Tensor] = []
        for batch in plan.batches:
            self._score(batch, self._logits(batch, prefix), values, greedy)
        # One transfer for the whole plan: a read-out per pair would wait for the device each time.
        token_values, token_greedy = torch.cat(values).tolist(), torch.cat(greedy).tolist()
        return [
            LogLikelihood(tokens=tuple(token_values[start:stop]), greedy=all(token_greedy[start:stop]))
            for start, stop in plan.spans
        ]

    def _read(self, ids_1P: torch.Tensor) -> Any:
        """Return the cache of keys and values of a prefix."""
        from transformers import DynamicCache

        extra = {"logits_to_keep": 1} if self._keeps else {}
        return self.model(input_ids=ids_1P, past_key_values=DynamicCache(), use_cache=True, **extra).past_key_values

    def _logits(self, batch: Batch, prefix: Any) -> torch.Tensor:
        """Return the logits of a batch at the kept positions, or at all where the model cannot choose."""
        extra: dict[str, Any] = dict(self._fixed)
        if self._keeps:
            extra["logits_to_keep"] = batch.keep
        if prefix is not None:
            extra |= {"past_key_values": _repeated(prefix, len(batch.ids)), "use_cache": True}
        if batch.segments is not None:
            seen = 0 if prefix is None else prefix.get_seq_length()
            extra |= {
                "attention_mask": _tree_mask(batch.segments, seen, self.model.dtype),
                "position_ids": batch.positions,
            }
        return self.model(input_ids=batch.ids, **extra).logits

    def _score(self, batch: Batch, logits_RKV: torch.Tensor, values: list[Any], greedy: list[Any]) -> None:
        """Append the log-likelihood of each of a batch's tokens, and whether it is the first choice."""
        column_N = batch.column if self._keeps else batch.keep[batch.column]
        step = max(1, _CHUNK.get(logits_RKV.device.type, 2**25) // logits_RKV.shape[-1])
        for start in range(0, len(batch.target), step):
            part = slice(start, start + step)
            logits_NV = logits_RKV[batch.row[part], column_N[part]].float()
            target_N = batch.target[part]
            values.append(logits_NV.log_softmax(1).gather(1, target_N[:, None])[:, 0])
            greedy.append(_first_choice(logits_NV, target_N))


def _first_choice(logits_NV: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Return whether each target is the argmax. On CPU the slow argmax is left to the few that reach the maximum."""
    if logits_NV.device.type != "cpu":
        return logits_NV.argmax(1) == target_N
    first_N = logits_NV.gather(1, target_N[:, None])[:, 0] == logits_NV.amax(1)
    reaching = first_N.nonzero()[:, 0]
    first_N[reaching] = logits_NV[reaching].argmax(1) == target_N[reaching]
    return first_N


def _repeated(prefix: Any, rows: int) -> Any:
    """Return a cache that shows a prefix to each of some rows; nothing is copied until the model extends it."""
    cache = copy.copy(prefix)
    cache.layers = [copy.copy(layer) for layer in prefix.layers]
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, *layer.keys.shape[1:])
        layer.values = layer.values.expand(rows, *layer.values.shape[1:])
    return cache


def _tree_mask(segments_RW: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask (R, 1, W, prefix + W): a token sees the prefix, its trunk and its own branch so far."""
    rows, width = segments_RW.shape
    same = segments_RW[:, :, None] == segments_RW[:, None, :]
    hidden = ~((segments_RW[:, None, :] == 0) | same).tril()
    mask = torch.zeros(rows, 1, width, prefix + width, dtype=dtype, device=segments_RW.device)
    mask[:, 0, :, prefix:].masked_fill_(hidden, torch.finfo(dtype).min)
    return mask
