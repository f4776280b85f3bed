"""Log-likelihoods of continuations under a live model, with few forward passes and small logits.

Works on any causal language model of transformers: it passes token ids and, where the model's forward knows it,
`logits_to_keep`; soft-capping and logit scaling stay the model's own business. Log-softmax is taken in float32.

Letters: R rows of a batch, L tokens of a row, K kept positions, N scored tokens, V vocabulary.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_MOST_LOGITS = 2**29  # numbers in one batch's logits (1 GiB in bfloat16); longer rows get smaller batches
_CHUNK = 2**25  # numbers turned to float32 at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question to the model: how likely is `continuation` after `context` (token ids, neither empty)?"""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def cut(self, max_length: int) -> tuple[int, ...]:
        """Return the model's input: everything but the last token, cut from the left to `max_length`."""
        return (self.context + self.continuation)[-(max_length + 1) :][:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLikelihood:
    """tokens: log-likelihood of each continuation token. greedy: whether each is the model's first choice."""

    tokens: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-likelihood of the continuation."""
        return sum(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """ids_RL; keep_K: positions whose logits are wanted; row_N, column_N: where in (R, K) each token is; target_N."""

    ids: torch.Tensor
    keep: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Batches for a fixed list of pairs; spans: (start, stop) of each pair among all scored tokens."""

    batches: tuple[_Batch, ...]
    spans: tuple[tuple[int, int], ...]


def make_plan(pairs: Sequence[Pair], *, batch_size: int, max_length: int, vocab_size: int, device: Any) -> Plan:
    """Lay pairs out in batches, longest first; the layout depends on the pairs and their order alone.

    Pairs whose inputs are equal share a row: one-token choices after one context need one row.
    """
    shared: dict[tuple[int, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        shared.setdefault(pair.cut(max_length), []).append(number)
    rows = sorted(shared.items(), key=lambda entry: (-len(entry[0]), entry[1][0]))
    batches: list[_Batch] = []
    spans: list[tuple[int, int]] = [(0, 0)] * len(pairs)
    start = scored = 0
    while start < len(rows):
        # vocab * length bounds the logits of a row even where every position is kept.
        fitting = max(1, _MOST_LOGITS // (vocab_size * len(rows[start][0])))
        chunk = rows[start : start + min(batch_size, fitting)]
        batch, chunk_spans = _lay_out(chunk, pairs, device)
        for number, first, last in chunk_spans:
            spans[number] = (scored + first, scored + last)
        scored += len(batch.target)
        start += len(chunk)
        batches.append(batch)
    return Plan(batches=tuple(batches), spans=tuple(spans))


def _lay_out(
    rows: Sequence[tuple[tuple[int, ...], list[int]]], pairs: Sequence[Pair], device: Any
) -> tuple[_Batch, list[tuple[int, int, int]]]:
    """Return a batch of right-padded rows, and (pair, first, last) of its pairs among the batch's tokens."""
    width = len(rows[0][0])
    row: list[int] = []
    position: list[int] = []
    target: list[int] = []
    spans = []
    for index, (tokens, numbers) in enumerate(rows):
        for number in numbers:
            continuation = pairs[number].continuation
            spans.append((number, len(target), len(target) + len(continuation)))
            row += [index] * len(continuation)
            position += range(len(tokens) - len(continuation), len(tokens))
            target += continuation
    keep = sorted(set(position))
    column = {place: i for i, place in enumerate(keep)}

    def tensor(numbers: Any) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    # Right padding needs no attention mask: a causal model never looks at what follows.
    ids = tensor([tokens + (0,) * (width - len(tokens)) for tokens, _ in rows])
    columns = tensor([column[place] for place in position])
    return _Batch(ids=ids, keep=tensor(keep), row=tensor(row), column=columns, target=tensor(target)), spans


class Forward:
    """Runs plans through one model object, whose weights may change between calls."""

    def __init__(self, model: Any):
        self.model = model
        known = inspect.signature(model.forward).parameters
        self._keeps = "logits_to_keep" in known
        catches_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        self._fixed = {"use_cache": False} if catches_all or "use_cache" in known else {}

    @torch.inference_mode()
    def run(self, plan: Plan) -> list[LogLikelihood]:
        """Return the log-likelihoods of the plan's pairs, in the order in which they were given."""
        values, greedy = [], []
        for batch in plan.batches:
            extra = {"logits_to_keep": batch.keep} if self._keeps else {}
            logits_RKV = self.model(input_ids=batch.ids, **extra, **self._fixed).logits
            column_N = batch.column if self._keeps else batch.keep[batch.column]
            step = max(1, _CHUNK // logits_RKV.shape[-1])
            for start in range(0, len(batch.target), step):
                part = slice(start, start + step)
                logits_NV = logits_RKV[batch.row[part], column_N[part]].float()
                target_N = batch.target[part]
                picked_N = logits_NV.gather(1, target_N[:, None])[:, 0]
                values.append(picked_N - logits_NV.logsumexp(1))
                greedy.append(logits_NV.argmax(1) == target_N)
        # One transfer for the whole plan: a read-out per pair would wait for the device each time.
        token_values, token_greedy = torch.cat(values).tolist(), torch.cat(greedy).tolist()
        return [
            LogLikelihood(tokens=tuple(token_values[start:stop]), greedy=all(token_greedy[start:stop]))
            for start, stop in plan.spans
        ]
