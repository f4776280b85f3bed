"""Tests of hypotheses: McNemar's for two models on the same 0/1 items, and Holm's correction for several claims."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from evomerge.errors import InvalidInput

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """What McNemar's exact test found.

    Attributes:
        wins: items on which only the first model is right.
        losses: items on which only the second is.
        p_value: two-sided.
    """

    wins: int
    losses: int
    p_value: float


def mcnemar(a: Sequence[float], b: Sequence[float]) -> McNemar:
    """Test whether two models are right equally often (McNemar 1947, https://doi.org/10.1007/BF02295996).

    Items that both get right or both wrong say nothing. If neither model is better, each of the others is a win with
    probability 1/2, so the two-sided p value is exactly

        min(1, 2 P(X <= min(wins, losses))),  X ~ Binomial(wins + losses, 1/2)

    Args:
        a: 0 or 1 of the first model for each item.
        b: the same of the second, on the same items in the same order.

    Raises:
        InvalidInput: other lengths, no items, or a value that is neither 0 nor 1.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise InvalidInput(f"{len(a)} and {len(b)} items; expected the same number of both models, and at least one")
    if not np.isin([first, second], [0.0, 1.0]).all():
        raise InvalidInput("McNemar's test takes items that are right (1) or wrong (0); graded scores need an interval")
    wins, losses = int((first > second).sum()), int((first < second).sum())
    return McNemar(wins=wins, losses=losses, p_value=_sign_test(wins, losses))


def _sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p value; exact, because Python's whole numbers are."""
    n, least = wins + losses, min(wins, losses)
    term = total = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)  # binomial coefficient of k + 1
        total += term
    return min(1.0, 2 * total / 2**n) if n else 1.0


def holm(p_values: Mapping[_Key, float]) -> dict[_Key, float]:
    """Adjust p values for their number, so that rejecting those below a level keeps the chance of any error below it.

    The k-th smallest of m (from 1) is multiplied by m - k + 1, and no value is below one that ranks before it (Holm
    1979, https://www.jstor.org/stable/4615733). Holds for any dependence between the tests.

    Args:
        p_values: name -> p value, in [0, 1].

    Returns:
        Name -> adjusted p value, in the order given.

    Raises:
        InvalidInput: a value is no number in [0, 1].
    """
    wrong = {name: p for name, p in p_values.items() if not 0 <= p <= 1}
    if wrong:
        name, p = next(iter(wrong.items()))
        raise InvalidInput(f"the p value of {name} is {p}; expected a number from 0 to 1")
    adjusted: dict[_Key, float] = {}
    highest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - position) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
