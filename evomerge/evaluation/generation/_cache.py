"""Keys and values of rows that come and go, in one block of memory for each layer of a model.

A row's tokens lie right-aligned: the last one of every row is in the same column, so that a step writes one column and
attention reads one rectangle. A row that ends is overwritten by the last one, and another may take the place of that.
A step copies nothing, where transformers' dynamic cache copies all that it holds. When the columns are used up, rows
move to the front of new memory, for fewer rows if they have grown long.

Letters: R rows, H heads, C columns of memory, W columns in use, D width of a head.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_SPARE_COLUMNS = 128  # for as many steps, until rows are moved to the front; each step reads them all, so that is cheap

KeysAndValues = tuple[torch.Tensor, torch.Tensor]


class _Layer(DynamicLayer):
    """One layer's keys and values, (R, H, C, D) each, of which the columns in use are what the model sees."""

    def __init__(self, columns: "RowCache"):
        super().__init__()
        self.columns = columns
        self.blocks: tuple[torch.Tensor, ...] = ()

    def get_seq_length(self) -> int:
        """Return the number of columns in use."""
        return self.columns.end - self.columns.start

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> KeysAndValues:
        """Write a step's column and return the columns in use with it."""
        rows, start, end = len(key_states), self.columns.start, self.columns.end
        self.reserve((key_states, value_states))
        for block, states in zip(self.blocks, (key_states, value_states), strict=True):
            block[:rows, :, end] = states[:, :, 0]
        keys, values = (block[:rows, :, start : end + 1] for block in self.blocks)
        return keys, values

    def reserve(self, like: Sequence[torch.Tensor]) -> None:
        """Take memory for tensors of a shape."""
        if not self.blocks:
            rows, capacity = self.columns.rows, self.columns.capacity
            shapes = [(rows, states.shape[1], capacity, states.shape[3]) for states in like]
            self.blocks = tuple(states.new_empty(shape) for states, shape in zip(like, shapes, strict=True))


class RowCache:
    """The cache of a batch whose rows change.

    Attributes:
        rows: that there is memory for.
        capacity: columns that there is memory for.
        start: first column in use.
        end: column that the next step writes.
        lengths: tokens of each row.
    """

    def __init__(self, rows: int, columns: int, steps: int):
        """Take no memory yet.

        Args:
            rows: at most.
            columns: that rows may have at first.
            steps: that a row may take at most.
        """
        self.rows, self._spare = rows, min(steps, _SPARE_COLUMNS)
        self.capacity = columns + self._spare
        self.start = self.end = columns
        self.lengths: list[int] = []
        self.states = DynamicCache()
        self.states.layer_class_to_replicate = functools.partial(_Layer, self)  # for a layer's first tokens

    def add(self, prefix: Sequence[KeysAndValues], rest: Sequence[KeysAndValues]) -> None:
        """Add a row.

        Args:
            prefix: keys and values (1, H, tokens, D) of its first tokens for each layer, or nothing.
            rest: of those that follow, or nothing.
        """
        row, before = len(self.lengths), self.start
        self.lengths.append(sum(part[0][0].shape[2] for part in (prefix, rest) if part))
        self.start = self.end - max(self.lengths)
        layers = self.states.layers
        layers += [_Layer(self) for _ in range(len(layers), max(len(prefix), len(rest)))]
        for number, layer in enumerate(layers):
            last = self.end
            for part in (rest, prefix):
                if not part:
                    continue
                layer.reserve(part[number])
                tokens = part[number][0].shape[2]
                for block, states in zip(layer.blocks, part[number], strict=True):
                    block[row, :, last - tokens : last] = states[0]
                last -= tokens
            for block in layer.blocks:  # what a mask hides still counts if it is not a number
                block[row, :, self.start : last] = 0
                if self.start < before:
                    block[:row, :, self.start : before] = 0

    def remove(self, row: int) -> None:
        """Remove a row; the last one gets its number."""
        last = len(self.lengths) - 1
        if row != last:
            for layer in self.states.layers:
                for block in layer.blocks:
                    block[row, :, self.start : self.end] = block[last, :, self.start : self.end]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        self.start = self.end - max(self.lengths, default=0)

    def move(self, rows: int, columns: int) -> None:
        """Take other memory, with columns for the next steps.

        Args:
            rows: that it is for, at least those that there are.
            columns: that a row which is added may have, at least.
        """
        count, used = len(self.lengths), self.end - self.start
        start, self.end = self.start, max(used, columns)
        self.rows, self.start, self.capacity = rows, self.end - used, self.end + self._spare
        for layer in self.states.layers:
            before, layer.blocks = layer.blocks, ()
            layer.reserve(before)
            for block, old in zip(layer.blocks, before, strict=True):
                block[:count, :, self.start : self.end] = old[:count, :, start : start + used]

    @property
    def is_full(self) -> bool:
        """Whether there is no column for the next step."""
        return self.end == self.capacity

    def advance(self) -> None:
        """Count the column that a step has written."""
        self.end += 1
        self.lengths = [length + 1 for length in self.lengths]


def repeated(prefix: Any, rows: int) -> Any:
    """Return a cache that shows a prefix to each of some rows; nothing is copied until the model extends it."""
    cache = copy.copy(prefix)
    cache.layers = [copy.copy(layer) for layer in prefix.layers]
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, *layer.keys.shape[1:])
        layer.values = layer.values.expand(rows, *layer.values.shape[1:])
    return cache
