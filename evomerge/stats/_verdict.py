"""Whether a gain may be claimed, and in which words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge.errors import InvalidInput
from evomerge.stats._intervals import Interval

Comparator = Literal["parent", "simple"]
"""What the pick is compared with: a parent or a simple baseline."""

_WORDS: dict[Comparator, str] = {"parent": "best parent", "simple": "best simple merge"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The pick against one reference.

    Attributes:
        id: of the reference.
        kind: what it is.
        interval: of the pick's gain over it.
    """

    id: int
    kind: Comparator
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a gain may be claimed.

    Attributes:
        gain: of the hardest comparison, which is the one whose interval has the lowest lower end.
        low: lower end of its interval.
        high: upper end of its interval.
        claimed: whether a gain is claimed.
        text: one sentence for a card or a terminal.
        comparisons: all of them, as given.
    """

    gain: float
    low: float
    high: float
    claimed: bool
    text: str
    comparisons: tuple[Comparison, ...]


def verdict(comparisons: Sequence[Comparison]) -> Verdict:
    """Judge the pick by its comparisons with the best parent and the best simple merge.

    A gain is claimed only if there are comparisons of both kinds and the lower end of every one exceeds 0. Because all
    have to (an intersection-union test, Berger 1982, https://doi.org/10.1080/00401706.1982.10487790), no correction
    for their number is due.

    Args:
        comparisons: at least one, all at one level.

    Raises:
        InvalidInput: no comparisons, or more than one level.
    """
    if not comparisons:
        raise InvalidInput("no comparisons to judge; expected one with a parent and one with a simple merge")
    if len({comparison.interval.level for comparison in comparisons}) > 1:
        raise InvalidInput("the comparisons' intervals have different levels")
    hardest = min(comparisons, key=lambda comparison: comparison.interval.low)
    missing = [kind for kind in _WORDS if all(comparison.kind != kind for comparison in comparisons)]
    claimed = not missing and hardest.interval.low > 0
    return Verdict(
        gain=hardest.interval.gain,
        low=hardest.interval.low,
        high=hardest.interval.high,
        claimed=claimed,
        text=_sentence(hardest, missing, claimed),
        comparisons=tuple(comparisons),
    )


def _sentence(hardest: Comparison, missing: Sequence[Comparator], claimed: bool) -> str:
    interval = hardest.interval
    numbers = (
        f"{interval.gain:+.4f} (paired {100 * interval.level:g}% interval {interval.low:+.4f} to {interval.high:+.4f}) "
        f"over the {_WORDS[hardest.kind]} (candidate {hardest.id})"
    )
    if claimed:
        return f"Gain: {numbers}, the hardest comparison."
    if missing and interval.low > 0:
        absent = " and the ".join(_WORDS[kind] for kind in missing)
        return f"No gain claimed: {numbers}, but there is no comparison with the {absent}."
    if interval.high < 0:
        return f"A loss, not a gain: {numbers}."
    return f"No evidence of gain: {numbers}."
