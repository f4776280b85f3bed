"""One objective's score from its items."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evomerge.errors import InvalidInput
from evomerge.records import Score


def mean_and_stderr(values: Sequence[float], weights: Sequence[float] | None = None) -> Score:
    """Return the (weighted) mean of the items, its standard error and their number.

    The standard error is the sample one, sqrt(sum (v - mean)^2 / (n (n - 1))), which for 0/1 items is the binomial one
    up to n - 1 for n; with weights it is that of a ratio estimate (Cochran 1977, sec. 2.11, without the finite
    population correction). A single item tells nothing about its spread: the standard error is then 0, beside n = 1.

    Args:
        values: finite, at least one.
        weights: one per value, not negative, not all 0; None for equal weights.

    Raises:
        InvalidInput: any of that is violated.
    """
    v = _finite("value", values)
    w = np.ones_like(v) if weights is None else _finite("weight", weights)
    if len(v) == 0:
        raise InvalidInput("no items to average; expected at least one")
    if len(w) != len(v):
        raise InvalidInput(f"{len(w)} weights for {len(v)} values; expected one each")
    if w.min() < 0 or w.sum() <= 0:
        raise InvalidInput("item weights must not be negative, and not all 0")
    n = len(v)
    mean = float(w @ v / w.sum())
    squares = float(w**2 @ (v - mean) ** 2)
    stderr = math.sqrt(squares * n / (n - 1)) / float(w.sum()) if n > 1 else 0.0
    return Score(value=mean, stderr=stderr, n=n)


def _finite(what: str, numbers: Sequence[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(numbers, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise InvalidInput(f"{what} {bad[0]} is {array[bad[0]]}; expected finite numbers")
    return array
