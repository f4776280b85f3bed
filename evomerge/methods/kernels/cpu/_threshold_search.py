"""Exact selection by compiled passes: a sample says where to look, passes that count decide.

A pass counts |delta| on both sides of eight pivots and so narrows the range that holds the threshold; when little is
left in it, one more pass collects that. An unlucky sample costs passes, never exactness.
"""

from typing import Any, NamedTuple

import numpy as np

from evomerge.methods.statistics._selection import KEEP_NONE, Cut

SAMPLE = 1 << 12  # patterns that say where a threshold may be
RUN = 8  # neighbors that are sampled together, because memory hands out neighbors at the price of one
PIVOTS = 8
SPREAD = np.array([-6.0, -2.0, -0.9, -0.3, 0.3, 0.9, 2.0, 6.0])  # of the pivots, in standard errors of the sample
ENOUGH = 64  # patterns of a sample in a range, to say where in it to look
LARGEST = 0x7FFFFFFF  # pattern


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


def select(code: Any, where: tuple[int, int, int, int], size: int, count: int) -> Cut:
    """Return the cut that keeps the `count` largest of `size` |delta|.

    Args:
        code: the compiled kernels.
        where: addresses and kinds of base and model.
        size: elements of both.
        count: 0 to `size`.
    """
    if count <= 0:
        return KEEP_NONE
    found = _Range(0, LARGEST, 0, size)
    sample = _sample(code, where, size) if size > SAMPLE else np.empty(0, np.int32)
    while found.low < found.high:
        if found.inside <= SAMPLE + size // 128:
            found = _collected(code, where, size, count, found)
        else:
            sample = sample[(sample >= found.low) & (sample <= found.high)]
            found = _narrowed(code, where, size, count, found, sample)
    ties = count - found.above
    end = size if ties == found.inside else int(code.nth_equal(*where, size, found.low, ties))
    return Cut(float(np.int32(found.low).view(np.float32)), end)


def _sample(code: Any, where: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Return patterns of a sample, ascending."""
    patterns = np.empty(SAMPLE, np.int32)
    code.sample(*where, size, RUN, patterns)
    patterns.sort()
    return patterns


def _collected(code: Any, where: tuple[int, int, int, int], size: int, count: int, found: _Range) -> _Range:
    """Return the threshold's own pattern."""
    values = np.empty(found.inside + code.group, np.int32)
    values = values[: code.collect(*where, size, found.low, found.high, values)]
    rank = len(values) - (count - found.above)
    values.partition(rank)
    pattern = int(values[rank])
    return _Range(pattern, pattern, found.above + int((values > pattern).sum()), int((values == pattern).sum()))


def _narrowed(
    code: Any, where: tuple[int, int, int, int], size: int, count: int, found: _Range, sample: np.ndarray
) -> _Range:
    """Return the part of a range, between two pivots, that holds the threshold."""
    pivots = _pivots(found, (count - found.above) / found.inside, sample)
    counts = np.empty(PIVOTS, np.int64)
    code.at_least(*where, size, pivots, counts)
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
