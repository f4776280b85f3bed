"""Exact selection by compiled passes: a sample says where to look, passes that count decide.

A pass counts |delta| on both sides of eight pivots and so narrows the range that holds the threshold; when little is
left in it, one more pass collects that. An unlucky sample costs passes, never exactness.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from evomerge.methods.statistics._selection import KEEP_NONE, Cut

SAMPLE = 1 << 12  # patterns that say where a threshold may be
RUN = 8  # neighbors that are sampled together, because memory hands out neighbors at the price of one
PIVOTS = 8
SPREAD = np.array([-6.0, -2.0, -0.9, -0.3, 0.3, 0.9, 2.0, 6.0])  # of the pivots, in standard errors of the sample
ENOUGH = 64  # patterns of a sample in a range, to say where in it to look
LARGEST = 0x7FFFFFFF  # pattern
COUNT, COLLECT, FIND = 0, 1, 2  # tasks of a pass, as `_statistics` has them, which is not imported before it is needed

_NOTHING = np.empty(0, np.int32)
_SCATTER = 0x9E3779B1  # a prime near 2^32 / golden ratio: its multiples lie far apart


class _Range(NamedTuple):
    """Patterns that hold the threshold.

    Attributes:
        low: the smallest of them.
        high: the largest of them.
        above: how many elements have a larger pattern.
        inside: how many elements have one of these.
    """

    low: int
    high: int
    above: int
    inside: int


class Deltas(NamedTuple):
    """|model - base|, as compiled passes read it.

    Attributes:
        code: the compiled kernels.
        where: (4,) int64, address and kind of the base, and of the model.
        base: the base.
        model: the model.
    """

    code: Any
    where: np.ndarray
    base: torch.Tensor
    model: torch.Tensor

    @property
    def size(self) -> int:
        """Elements of both."""
        return self.model.numel()

    def scan(self, task: int, wanted: Sequence[int] | np.ndarray, counts: np.ndarray, found: np.ndarray) -> int:
        """Pass over all of it once (see `_statistics.scan`; `wanted` may be shorter)."""
        numbers, tile = np.zeros(PIVOTS, np.int32), self.code.tile
        numbers[: len(wanted)] = wanted
        work = np.empty(tile, np.int32), np.empty((2, tile), np.float32)
        return int(self.code.scan(self.where, self.size, task, numbers, counts, found, *work))


def select(deltas: Deltas, count: int) -> Cut:
    """Return the cut that keeps the `count` largest, 0 to all of them."""
    if count <= 0:
        return KEEP_NONE
    size = deltas.size
    found = _Range(0, LARGEST, 0, size)
    sample = _sample(deltas) if size > SAMPLE else np.empty(0, np.int32)
    while found.low < found.high:
        if found.inside <= SAMPLE + size // 128:
            found = _collected(deltas, count, found)
        else:
            sample = sample[(sample >= found.low) & (sample <= found.high)]
            found = _narrowed(deltas, count, found, sample)
    ties = count - found.above
    end = size if ties == found.inside else nth_equal(deltas, found.low, ties)
    return Cut(float(np.int32(found.low).view(np.float32)), end)


def nth_equal(deltas: Deltas, pattern: int, skip: int) -> int:
    """Return the position of the first one with this pattern after `skip` others; the size if there is none."""
    return deltas.scan(FIND, [pattern], np.full(PIVOTS, skip, np.int64), _NOTHING)


def _sample(deltas: Deltas) -> np.ndarray:
    """Return patterns of a sample, ascending: neighbors from each of as many equal stretches as it takes."""
    count, size = SAMPLE // RUN, deltas.size
    number = np.arange(count, dtype=np.int64)
    low, high = number * size // count, (number + 1) * size // count
    # Any place in its stretch will do: a fixed one could fall in step with the rows of a matrix.
    start = low + (number * _SCATTER & 0xFFFFFFFF) % (high - low - RUN + 1)
    places = torch.from_numpy((start[:, None] + np.arange(RUN)).reshape(-1))
    base, model = (tensor.reshape(-1)[places].float() for tensor in (deltas.base, deltas.model))
    return np.sort((model - base).abs_().numpy().view(np.int32))


def _collected(deltas: Deltas, count: int, found: _Range) -> _Range:
    """Return the threshold's own pattern."""
    values = np.empty(found.inside + deltas.code.group, np.int32)
    values = values[: deltas.scan(COLLECT, [found.low, found.high], np.zeros(PIVOTS, np.int64), values)]
    rank = len(values) - (count - found.above)
    values.partition(rank)
    pattern = int(values[rank])
    return _Range(pattern, pattern, found.above + int((values > pattern).sum()), int((values == pattern).sum()))


def _narrowed(deltas: Deltas, count: int, found: _Range, sample: np.ndarray) -> _Range:
    """Return the part of a range, between two pivots, that holds the threshold."""
    pivots = _pivots(found, (count - found.above) / found.inside, sample)
    counts = np.zeros(PIVOTS, np.int64)
    deltas.scan(COUNT, pivots, counts, _NOTHING)
    edges = [found.low, *pivots.tolist(), found.high + 1]
    larger = [found.above + found.inside, *counts.tolist(), found.above]
    part = next(i for i in range(PIVOTS, -1, -1) if larger[i] >= count)
    return _Range(edges[part], edges[part + 1] - 1, larger[part + 1], larger[part] - larger[part + 1])


def _pivots(found: _Range, share: float, sample: np.ndarray) -> np.ndarray:
    """Return pivots around the place in the sample where `share` of it is larger.

    A pattern that is picked twice, because it is common, gets a pivot on either side of it, which takes it out by
    itself.

    Args:
        found: the range.
        share: of the range's elements that are wanted, 0 to 1.
        sample: ascending patterns of the range; with few of them, the pivots divide the range evenly.

    Returns:
        (PIVOTS,) int32, not descending, in (low, high].
    """
    if len(sample) < ENOUGH:
        step = np.arange(1, PIVOTS + 1) / (PIVOTS + 1)
        return (
            (found.low + 1 + (step * (found.high - found.low)).astype(np.int64)).clip(max=found.high).astype(np.int32)
        )
    error = (share * (1 - share) * len(sample)) ** 0.5 + 1
    places = ((1 - share) * len(sample) + SPREAD * error).round().astype(np.int64)
    picked = sample[places.clip(0, len(sample) - 1)].astype(np.int64)
    for i in range(1, PIVOTS):
        picked[i] = max(picked[i], picked[i - 1] + 1)
    return picked.clip(found.low + 1, found.high).astype(np.int32)
