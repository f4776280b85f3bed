"""Whether a gain may be claimed, and in which words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evomerge.errors import InvalidInput, some_of
from evomerge.stats._intervals import Interval
from evomerge.stats._significance import McNemar, holm

Comparator = Literal["parent", "simple", "control"]
"""What the pick is compared with: a parent, a simple merge, or a control such as a recipe of the user's own."""

_NEEDED: dict[Comparator, str] = {"parent": "parent", "simple": "simple merge"}  # no claim without a comparison of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The pick against one reference.

    Attributes:
        id: of the reference.
        kind: what it is.
        name: of the reference.
        what: what it is, in words ("simple merge").
        interval: of the pick's gain over it.
        mcnemar: exact test beside the interval, where a single objective has 0/1 items; else None.
    """

    id: int
    kind: Comparator
    name: str
    what: str
    interval: Interval
    mcnemar: McNemar | None = None

    @property
    def described(self) -> str:
        """The reference, as a sentence names it."""
        return f"{self.name} ({self.what}, candidate {self.id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorCheck:
    """The pick against the floor of one objective; all numbers in the metric's own units and direction.

    Attributes:
        objective: its name.
        floor: what was to be reached.
        value: what the pick reached.
        low: lower end of the value's interval; where the floor is a parent's own score less something, that of the
            paired difference, around the value.
        high: upper end.
        level: nominal coverage.
        met: whether the value reaches the floor.
        proven: whether the whole interval does.
    """

    objective: str
    floor: float
    value: float
    low: float
    high: float
    level: float
    met: bool
    proven: bool

    @property
    def described(self) -> str:
        """The value beside its floor, as a sentence names them."""
        interval = f"{100 * self.level:g}% interval {self.low:.4f} to {self.high:.4f}"
        return f"{self.objective} is {self.value:.4f} ({interval}), its floor {self.floor:.4f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontClaim:
    """Another member of the front than the pick, against every reference.

    Attributes:
        id: of the candidate.
        name: of the candidate.
        gain: of its hardest comparison; None without any.
        low: lower end of its interval, or None.
        high: upper end of its interval, or None.
        p_value: one-sided, the largest over the references.
        adjusted: the same after Holm's correction for the number of members, and no smaller than that of the pick.
        claimed: whether a gain is claimed.
    """

    id: int
    name: str
    gain: float | None
    low: float | None
    high: float | None
    p_value: float
    adjusted: float
    claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a gain may be claimed.

    Attributes:
        gain: of the hardest comparison, which is the one whose interval has the lowest lower end; None without any.
        low: lower end of its interval, or None.
        high: upper end of its interval, or None.
        claimed: whether a gain is claimed.
        text: a few sentences for a card or a terminal.
        comparisons: all of them, as given.
        floors: all of them, as given.
        keep: the reference that is rather to be used, where no gain is claimed and one scores more than the pick.
        front: the front's other members, where they were judged.
    """

    gain: float | None
    low: float | None
    high: float | None
    claimed: bool
    text: str
    comparisons: tuple[Comparison, ...]
    floors: tuple[FloorCheck, ...]
    keep: int | None = None
    front: tuple[FrontClaim, ...] = ()

    @property
    def p_value(self) -> float:
        """One-sided, of a gain over every reference: the largest of the comparisons', 1 without any."""
        return max((comparison.interval.p_value for comparison in self.comparisons), default=1.0)


def with_front(pick: Verdict, members: Mapping[int, tuple[str, Verdict]]) -> Verdict:
    """Return the pick's verdict with claims of the front's other members.

    A member's claim is over every reference, so its p value is the largest of its comparisons'. The pick is tested
    first, at the full level, because it was chosen before the report items were looked at; only if its gain is claimed
    are the others tested, with Holm's correction for their number. So the chance of any false claim stays at that of
    one (serial gatekeeping, Dmitrienko & Tamhane 2007, https://doi.org/10.1002/pst.291).

    Args:
        pick: its verdict.
        members: candidate -> its name, and its verdict as if it were the pick.
    """
    if not members:
        return pick
    level = next((comparison.interval.level for comparison in pick.comparisons), 0.95)
    adjusted = holm({identity: judged.p_value for identity, (_, judged) in members.items()})
    front = []
    for identity, (name, judged) in members.items():
        p_value = max(adjusted[identity], pick.p_value)
        front.append(
            FrontClaim(
                id=identity,
                name=name,
                gain=judged.gain,
                low=judged.low,
                high=judged.high,
                p_value=judged.p_value,
                adjusted=p_value,
                claimed=pick.claimed and judged.claimed and p_value <= (1 - level) / 2,
            )
        )
    return replace(pick, front=tuple(front), text=f"{pick.text} {_front_sentence(pick, front)}")


def _front_sentence(pick: Verdict, front: Sequence[FrontClaim]) -> str:
    """Return the sentence about the front's other members."""
    others = "1 other member" if len(front) == 1 else f"{len(front)} other members"
    if not pick.claimed:
        return f"No gain is claimed of the front's {others} either, as they are tested after the pick."
    claimed = [claim for claim in front if claim.claimed]
    if not claimed:
        return f"Of the front's {others} no gain over every reference is claimed (Holm's correction)."
    named = some_of([f"{claim.name} (p {claim.adjusted:.2g})" for claim in claimed])
    return f"Of the front's {others} {len(claimed)} also gain over every reference: {named}; Holm's correction."


def verdict(
    comparisons: Sequence[Comparison],
    *,
    floors: Sequence[FloorCheck] = (),
    unchecked: Sequence[str] = (),
    kept: str | None = None,
    left_out: Sequence[str] = (),
    unknown: bool = False,
    fit: Collection[int] | None = None,
) -> Verdict:
    """Judge the pick by its comparisons with every reference that may be the best one.

    A gain is claimed only if the pick was found by the search, there are comparisons with a parent and with a simple
    merge, no reference that may be better is left out, the lower end of every comparison exceeds 0, and every floor is
    known and met. Because all have to (an intersection-union test, Berger 1982,
    https://doi.org/10.1080/00401706.1982.10487790), no correction for their number is due.

    Args:
        comparisons: all at one level.
        floors: of the pick.
        unchecked: floors that nothing can be said of, in words ("acc, whose parent base could not be scored").
        kept: the reference that the pick is, in words ("uniform average (simple merge)"); None = the search found it.
        left_out: references that could not be compared, in words.
        unknown: whether one of them may be better than the pick for all that is known.
        fit: references that meet every floor; None = all.

    Raises:
        InvalidInput: the comparisons have more than one level.
    """
    if len({comparison.interval.level for comparison in comparisons}) > 1:
        raise InvalidInput("the comparisons' intervals have different levels")
    hardest = min(comparisons, key=lambda comparison: comparison.interval.low, default=None)
    missing = [kind for kind in _NEEDED if all(comparison.kind != kind for comparison in comparisons)]
    barred = _barred(floors, unchecked, unknown)
    gains = hardest is not None and hardest.interval.low > 0
    claimed = kept is None and not missing and not barred and gains
    keep = None if claimed or kept is not None else _better(comparisons, fit)
    sentences = [
        _kept_sentence(kept, hardest, len(comparisons), bounded=bool(floors or unchecked))
        if kept is not None
        else _sentence(hardest, len(comparisons), missing, barred),
        *([] if keep is None else [f"Keep {keep.described}, which scores more on these items."]),
        *_floor_sentences(floors),
        *(f"Floor not checked: {floor}." for floor in unchecked),
        *_left_out_sentences(left_out),
    ]
    return Verdict(
        gain=None if hardest is None else hardest.interval.gain,
        low=None if hardest is None else hardest.interval.low,
        high=None if hardest is None else hardest.interval.high,
        claimed=claimed,
        text=" ".join(sentences),
        comparisons=tuple(comparisons),
        floors=tuple(floors),
        keep=None if keep is None else keep.id,
    )


def _barred(floors: Sequence[FloorCheck], unchecked: Sequence[str], unknown: bool) -> str:
    """Return why there can be no claim, whatever the comparisons say, or ""."""
    missed = [floor.objective for floor in floors if not floor.met]
    if missed:
        return f"a floor is missed ({', '.join(missed)})"
    if unchecked:
        return f"a floor could not be checked ({', '.join(unchecked)})"
    return "a reference that may be better could not be compared" if unknown else ""


def _better(comparisons: Sequence[Comparison], fit: Collection[int] | None) -> Comparison | None:
    """Return the comparison with the best of the references that score more than the pick and meet the floors."""
    better = [c for c in comparisons if c.interval.gain < 0 and (fit is None or c.id in fit)]
    return min(better, key=lambda c: c.interval.gain, default=None)


def _sentence(hardest: Comparison | None, count: int, missing: Sequence[Comparator], barred: str) -> str:
    """Return the sentence about a pick that the search found.

    Args:
        hardest: of its comparisons.
        count: of comparisons.
        missing: kinds of references that it could not be compared with.
        barred: why a floor or an unknown reference allows no claim, or "".
    """
    absent = " and with a ".join(_NEEDED[kind] for kind in missing)
    if hardest is None:
        return f"No gain claimed: there is no comparison with a {absent}, as none could be scored."
    numbers, interval = f"{_numbers(hardest)}, {_rank(count)}", hardest.interval
    if interval.high < 0:
        return f"A loss, not a gain: {numbers}."
    if interval.low <= 0:
        return f"No evidence of gain: {numbers}."
    if missing:
        return f"No gain claimed: {numbers}, but there is no comparison with a {absent}."
    if barred:
        return f"No gain claimed, because {barred}: {numbers}."
    return f"Gain: {numbers}."


def _kept_sentence(kept: str, hardest: Comparison | None, count: int, *, bounded: bool) -> str:
    """Return the sentence about a pick that is a reference; `bounded`: there are floors, which decide first."""
    better = "meets the floors and scores higher" if bounded else "scores higher"
    begin = f"Keep {kept}: nothing that the search found {better} on the select items, so no gain is claimed"
    if hardest is None:
        return f"{begin}."
    return f"{begin}; on the report items it is at {_numbers(hardest)}, {_rank(count)} with the other references."


def _numbers(comparison: Comparison) -> str:
    interval = comparison.interval
    ends = f"paired {100 * interval.level:g}% interval {interval.low:+.4f} to {interval.high:+.4f}"
    if comparison.mcnemar is not None:
        ends += f", McNemar p {comparison.mcnemar.p_value:.3g}"
    return f"{interval.gain:+.4f} ({ends}) over {comparison.described}"


def _rank(count: int) -> str:
    return "the only comparison" if count == 1 else f"the hardest of {count} comparisons"


def _floor_sentences(floors: Sequence[FloorCheck]) -> list[str]:
    """Return sentences about floors that are missed, or that may be."""
    missed = [f"Floor missed: {floor.described}." for floor in floors if not floor.met]
    unproven = [
        f"Floor met, but its interval does not exclude a miss: {floor.described}."
        for floor in floors
        if floor.met and not floor.proven
    ]
    return missed + unproven


def _left_out_sentences(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [f"Not compared, as they could not be scored: {some_of(left_out)}."]
