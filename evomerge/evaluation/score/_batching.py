"""Which tokens go through the model, in which batches: as few as possible, in an order that the items alone decide.

Three savings, none of which changes an answer beyond rounding:

* Questions with equal inputs share a row: one-token choices after one context cost one row.
* A tree row holds a context once and its choices beside each other. A mask keeps the choices from seeing one another,
  and each token gets the position that it would have in a row of its own.
* A prefix that every row begins with (few-shot examples) is read once, and kept as keys and values.

Rows are sorted by length and cut into batches of at most `batch_size` rows and `max_tokens` tokens, padding and prefix
included; one row may be longer. The layout depends on the questions and their order, never on what was scored before.
Letters: R rows, W width of a row, P tokens of the prefix, K kept positions, U positions that something is predicted
from, N scored tokens, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_MAX_LOGITS = 2**29  # numbers in one batch's logits (1 GiB in bfloat16); longer rows get smaller batches
_MIN_PREFIX_TOKENS = 16  # reading it takes a forward pass of its own
_MIN_SAVED_SHARE = 0.15  # share of the tokens that a prefix or trees must save: masks and caches cost a little, too
_MIN_ROW_SAVED_SHARE = 0.25  # share of a row's tokens that it must save to join a tree
_MAX_TREE_TOKENS = 512  # of a tree of short rows; wide trees waste attention on what their mask hides


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """One question to the model: how likely is `continuation` after `context` (token ids, neither empty)?"""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def cut(self, max_length: int) -> tuple[int, ...]:
        """Return the model's input: everything but the last token, cut from the left to `max_length`."""
        return (self.context + self.continuation)[-(max_length + 1) :][:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSharing:
    """What a model can share between rows.

    Attributes:
        possible: whether it can share anything.
        window: tokens of the longest row for which it can (sliding attention); None = any.
    """

    possible: bool = False
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Size of a batch, and what bounds it.

    Attributes:
        batch_size: most rows.
        max_tokens: most tokens, padding and prefix included.
        max_length: tokens that the model reads.
        vocab_size: numbers in the logits of a position.
    """

    batch_size: int
    max_tokens: int
    max_length: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One forward pass.

    Attributes:
        ids: (R, W) token ids.
        keep: (K,) positions whose logits are wanted.
        row: (U,) where in (R, K) a prediction is taken from, each place once.
        column: (U,) the same.
        target: (N,) the scored tokens, in the order of the predictions.
        source: (N,) which of the U predictions is a token's.
        source_numbers: the same as plain numbers: a part of the predictions finds its tokens without the device.
        positions: (R, W) of a batch with trees, else None.
        segments: (R, W) of a batch with trees, else None; segment 0 is the trunk, which every later token of the row
            sees, the others are branches.
    """

    ids: torch.Tensor
    keep: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    target: torch.Tensor
    source: torch.Tensor
    source_numbers: Sequence[int]
    positions: torch.Tensor | None
    segments: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Batches for a fixed list of pairs.

    Attributes:
        batches: forward passes.
        order: (N,) for the scored tokens of all pairs in turn, their index among those of all batches.
        lengths: number of tokens of each pair.
        prefix: (1, P) what all rows begin with, or None.
        tokens: that go through the model, padding included.
    """

    batches: tuple[Batch, ...]
    order: torch.Tensor
    lengths: tuple[int, ...]
    prefix: torch.Tensor | None
    tokens: int


@dataclass(frozen=True, slots=True)
class _Branch:
    """The end of an input, after its row's trunk.

    Attributes:
        tokens: of it.
        pairs: numbers of the pairs that it answers.
    """

    tokens: tuple[int, ...]
    pairs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a batch: tokens that all its branches share, and the branches."""

    trunk: tuple[int, ...]
    branches: tuple[_Branch, ...]

    @property
    def width(self) -> int:
        return len(self.trunk) + sum(len(branch.tokens) for branch in self.branches)


def make_batch_plan(
    pairs: Sequence[TokenPair], *, limits: BatchLimits, sharing: ContextSharing, device: Any, prefix: bool = True
) -> BatchPlan:
    """Lay pairs out in batches.

    Args:
        pairs: in any order; the layout follows from it.
        limits: of a batch.
        sharing: what the model can share between rows.
        device: for the tensors.
        prefix: whether what all rows begin with may be read once; no gradient could flow through it.
    """
    inputs: dict[tuple[int, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        inputs.setdefault(pair.cut(limits.max_length), []).append(number)
    sharing = sharing if _fits(inputs, sharing) else ContextSharing()
    start = _prefix_length(inputs, pairs) if sharing.possible and prefix else 0
    shared = next(iter(inputs), ())[:start]
    rows = [_Row(tokens[start:], (_Branch((), tuple(numbers)),)) for tokens, numbers in inputs.items()]
    if sharing.possible:
        trees = _trees(rows)
        rows = trees if _size(trees) <= (1 - _MIN_SAVED_SHARE) * _size(rows) else rows
    rows.sort(key=lambda row: (-row.width, row.branches[0].pairs[0]))
    batches: list[Batch] = []
    indices: list[list[int]] = [[] for _ in pairs]
    done = scored = 0
    while done < len(rows):
        chunk = rows[done : done + _fitting(rows[done].width, len(shared), limits)]
        batch, found = _lay_out(chunk, len(shared), pairs, device)
        for number, numbers in found.items():
            indices[number] = [scored + index for index in numbers]
        scored += len(batch.target)
        done += len(chunk)
        batches.append(batch)
    return BatchPlan(
        batches=tuple(batches),
        order=torch.tensor([index for numbers in indices for index in numbers], dtype=torch.long, device=device),
        lengths=tuple(map(len, indices)),
        prefix=torch.tensor([shared], dtype=torch.long, device=device) if shared else None,
        tokens=len(shared) + sum(batch.ids.numel() for batch in batches),
    )


def _fits(inputs: Iterable[tuple[int, ...]], sharing: ContextSharing) -> bool:
    """Return whether every input lies inside the model's attention window."""
    return sharing.window is None or all(len(tokens) <= sharing.window for tokens in inputs)


def _fitting(width: int, prefix: int, limits: BatchLimits) -> int:
    """Return how many rows of a width go into one batch."""
    by_logits = _MAX_LOGITS // (limits.vocab_size * width)  # vocab * width bounds a row's logits
    return max(1, min(limits.batch_size, limits.max_tokens // (prefix + width), by_logits))


def _size(rows: Iterable[_Row]) -> int:
    """Return the number of tokens of rows."""
    return sum(row.width for row in rows)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the number of tokens with which both begin."""
    for length, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return length
    return min(len(a), len(b))


def _prefix_length(inputs: dict[tuple[int, ...], list[int]], pairs: Sequence[TokenPair]) -> int:
    """Return the length of a prefix that is worth reading once, or 0. No prediction is taken from inside it."""
    if len(inputs) < 2:
        return 0
    length = _common(min(inputs), max(inputs))  # what the first and last in sorted order share, all share
    for tokens, numbers in inputs.items():
        length = min(length, len(tokens) - max(len(pairs[number].continuation) for number in numbers))
    worth = length * (len(inputs) - 1) >= _MIN_SAVED_SHARE * sum(map(len, inputs))
    return length if worth and length >= _MIN_PREFIX_TOKENS else 0


def _trees(rows: Sequence[_Row]) -> list[_Row]:
    """Join rows with a common beginning; in sorted order they are neighbors."""
    widest = max(_MAX_TREE_TOKENS, 2 * max(row.width for row in rows))
    trees: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.trunk):
        tree = trees[-1] if trees else None
        shared = _common(tree.trunk, row.trunk) if tree else 0
        if tree and shared:
            lost = len(tree.trunk) - shared  # tokens that every branch has to repeat from now on
            saved = len(tree.trunk) - len(tree.branches) * lost
            if saved >= _MIN_ROW_SAVED_SHARE * row.width and tree.width + row.width - saved <= widest:
                end = tree.trunk[shared:]
                branches = [_Branch(end + branch.tokens, branch.pairs) for branch in tree.branches]
                branches += [_Branch(row.trunk[shared:], row.branches[0].pairs)]
                trees[-1] = _Row(tree.trunk[:shared], tuple(branches))
                continue
        trees.append(row)
    return trees


def _lay_out(
    rows: Sequence[_Row], prefix: int, pairs: Sequence[TokenPair], device: Any
) -> tuple[Batch, dict[int, list[int]]]:
    """Return a batch of right-padded rows, and pair -> the indices of its tokens among the batch's scored ones."""
    scored = [
        (index, column, number, token)
        for index, row in enumerate(rows)
        for number, columns in _columns(row, pairs)
        for column, token in zip(columns, pairs[number].continuation, strict=True)
    ]
    scored.sort(key=lambda entry: entry[:2])  # stable: the tokens of a pair stay in their order
    indices: dict[int, list[int]] = {}
    for index, (_, _, number, _) in enumerate(scored):
        indices.setdefault(number, []).append(index)
    keep = sorted({column for _, column, _, _ in scored})
    kept = {column: i for i, column in enumerate(keep)}
    cells = dict.fromkeys((row, column) for row, column, _, _ in scored)
    predictions = {cell: i for i, cell in enumerate(cells)}
    source = [predictions[row, column] for row, column, _, _ in scored]

    def tensor(numbers: Any) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    width = rows[0].width
    # Right padding needs no mask: a causal model never looks at what follows.
    ids = [_padded([*row.trunk, *(token for branch in row.branches for token in branch.tokens)], width) for row in rows]
    branched = any(len(row.branches) > 1 for row in rows)
    batch = Batch(
        ids=tensor(ids),
        keep=tensor(keep),
        row=tensor([row for row, _ in predictions]),
        column=tensor([kept[column] for _, column in predictions]),
        target=tensor([token for _, _, _, token in scored]),
        source=tensor(source),
        source_numbers=source,
        positions=tensor([_padded(_positions(row, prefix), width) for row in rows]) if branched else None,
        segments=tensor([_padded(_segments(row), width) for row in rows]) if branched else None,
    )
    return batch, indices


def _columns(row: _Row, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, list[int]]]:
    """Yield each pair of a row, and the columns from which the tokens of its continuation are predicted."""
    start = trunk = len(row.trunk)
    for branch in row.branches:
        # The branch's input is the trunk and then the columns start, start + 1, ...
        columns = [*range(trunk), *range(start, start + len(branch.tokens))]
        for number in branch.pairs:
            yield number, columns[len(columns) - len(pairs[number].continuation) :]
        start += len(branch.tokens)


def _padded(numbers: list[int], width: int) -> list[int]:
    """Return the list with zeros up to a width: token, position and segment 0, on which nothing that counts depends."""
    return numbers + [0] * (width - len(numbers))


def _positions(row: _Row, prefix: int) -> list[int]:
    """Return each token's place in its own input."""
    start = prefix + len(row.trunk)
    places = [start + i for branch in row.branches for i in range(len(branch.tokens))]
    return [*range(prefix, start), *places]


def _segments(row: _Row) -> list[int]:
    """Return 0 for the trunk's tokens, and the number of their branch, from 1, for the others."""
    return [0] * len(row.trunk) + [i for i, branch in enumerate(row.branches, start=1) for _ in branch.tokens]
