"""When a gain may be claimed, and what is said otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from evomerge.stats import (
    Comparator,
    Comparison,
    FloorCheck,
    Interval,
    McNemar,
    Verdict,
    verdict,
    with_front,
)

WHAT: dict[Comparator, str] = {"parent": "parent", "simple": "simple merge", "control": "start recipe"}


def comparison(id: int, kind: Comparator, gain: float, low: float, high: float, **more: Any) -> Comparison:
    interval = Interval(gain=gain, low=low, high=high)
    return Comparison(id=id, kind=kind, name=f"r{id}", what=WHAT[kind], interval=interval, **more)


def floor(value: float, low: float, high: float, bound: float = 0.9) -> FloorCheck:
    met, proven = value >= bound, low >= bound
    return FloorCheck(
        objective="kanji", floor=bound, value=value, low=low, high=high, level=0.95, met=met, proven=proven
    )


GAINS = [comparison(1, "parent", 0.08, 0.05, 0.11), comparison(4, "simple", 0.04, 0.01, 0.07)]


def test_a_gain_over_all_is_claimed_with_the_hardest_numbers() -> None:
    result = verdict(GAINS)
    assert result.claimed and (result.gain, result.low, result.high) == (0.04, 0.01, 0.07)
    assert result.text == (
        "Gain: +0.0400 (paired 95% interval +0.0100 to +0.0700) over r4 (simple merge, candidate 4), "
        "the hardest of 2 comparisons."
    )
    assert [c.id for c in result.comparisons] == [1, 4]


def test_the_lower_lower_end_decides_not_the_lower_gain() -> None:
    result = verdict([comparison(1, "parent", 0.05, -0.02, 0.12), comparison(4, "simple", 0.03, 0.01, 0.05)])
    assert not result.claimed and (result.gain, result.low) == (0.05, -0.02)
    assert result.text.startswith("No evidence of gain: +0.0500") and "r1 (parent, candidate 1)" in result.text


@pytest.mark.parametrize("low", [0.0, -1e-9])
def test_a_lower_end_of_zero_is_no_gain(low: float) -> None:
    result = verdict([comparison(1, "parent", 0.05, low, 0.1), comparison(4, "simple", 0.05, 0.02, 0.1)])
    assert not result.claimed and "No evidence of gain" in result.text


@pytest.mark.parametrize(("kind", "absent"), [("parent", "simple merge"), ("simple", "parent")])
def test_one_kind_of_comparison_alone_claims_nothing(kind: Comparator, absent: str) -> None:
    result = verdict([comparison(1, kind, 0.05, 0.02, 0.08)])
    assert not result.claimed and f"no comparison with a {absent}" in result.text


def test_a_loss_is_called_one() -> None:
    result = verdict([comparison(1, "parent", -0.05, -0.08, -0.02), comparison(2, "simple", 0.2, 0.1, 0.3)])
    assert not result.claimed and result.text.startswith("A loss, not a gain: -0.0500")


@pytest.mark.parametrize("kind", ["parent", "simple", "control"])
def test_every_comparison_must_hold_whatever_its_kind(kind: Comparator) -> None:
    assert not verdict([*GAINS, comparison(2, kind, 0.02, -0.01, 0.05)]).claimed


def test_a_missed_floor_is_no_gain_and_a_doubtful_one_is_named() -> None:
    missed = verdict(GAINS, floors=[floor(0.88, 0.84, 0.91)])
    assert not missed.claimed
    assert missed.text.startswith("No gain claimed, because a floor is missed (kanji): +0.0400")
    assert missed.text.endswith("Floor missed: kanji is 0.8800 (95% interval 0.8400 to 0.9100), its floor 0.9000.")
    unknown = verdict(GAINS, floors=[floor(0.95, 0.92, 0.97)], unchecked=["b, as its parent one could not be scored"])
    assert not unknown.claimed and "because a floor could not be checked (b, as its parent one" in unknown.text
    alone = verdict(GAINS, left_out=["one (parent, candidate 0)"], unknown=True)
    assert not alone.claimed and "because a reference that may be better could not be compared" in alone.text
    assert verdict(GAINS, left_out=["collapsed (simple merge, candidate 4)"]).claimed
    doubtful = verdict(GAINS, floors=[floor(0.91, 0.88, 0.93)])
    assert doubtful.claimed and "does not exclude a miss: kanji is 0.9100" in doubtful.text
    assert "loor" not in verdict(GAINS, floors=[floor(0.95, 0.92, 0.97)]).text


def test_a_reference_that_is_kept_is_never_a_gain() -> None:
    result = verdict(GAINS, kept="mine.yaml (your own start recipe, candidate 9)")
    assert not result.claimed and result.gain == 0.04
    assert result.text.startswith("Keep mine.yaml (your own start recipe, candidate 9): nothing that the search found")
    alone = verdict([], kept="one (parent, candidate 0)")
    assert alone.gain is None and alone.text.startswith("Keep one") and not alone.claimed


def test_a_reference_that_scores_more_is_to_be_kept_if_it_meets_the_floors() -> None:
    lower, lowest = comparison(1, "parent", -0.01, -0.03, 0.02), comparison(4, "simple", -0.02, -0.03, 0.01)
    both = verdict([lower, lowest])
    assert both.keep == 4 and both.text.startswith("No evidence of gain: ")
    assert both.text.endswith(f"Keep {lowest.described}, which scores more on these items.")
    assert verdict([lower, lowest], fit=[1]).keep == 1
    assert verdict([lower, lowest], fit=[]).keep is None
    assert verdict([comparison(1, "parent", 0.01, -0.01, 0.02), GAINS[1]]).keep is None, "it scores less"
    assert verdict([lower, lowest], kept="one (parent, candidate 1)").keep is None, "the pick is kept already"
    assert verdict(GAINS).keep is None


def test_where_there_are_floors_a_kept_reference_need_not_have_the_best_score() -> None:
    bounded = verdict(GAINS, kept="one (parent, candidate 1)", floors=[floor(0.95, 0.92, 0.97)])
    assert "nothing that the search found meets the floors and scores higher on the select items" in bounded.text


def test_without_any_comparison_nothing_is_claimed_and_who_is_left_out_is_named() -> None:
    result = verdict([], left_out=["one (parent, candidate 0)"])
    assert (result.claimed, result.gain, result.low) == (False, None, None)
    assert result.text.startswith("No gain claimed: there is no comparison with a parent and with a simple merge")
    assert result.text.endswith("Not compared, as they could not be scored: one (parent, candidate 0).")


def test_an_exact_test_stands_beside_the_interval() -> None:
    exact = McNemar(wins=30, losses=10, p_value=0.0022)
    result = verdict([comparison(1, "parent", 0.04, 0.01, 0.07, mcnemar=exact)])
    assert "(paired 95% interval +0.0100 to +0.0700, McNemar p 0.0022)" in result.text


def test_mixed_levels_are_refused() -> None:
    interval = Interval(gain=0.1, low=0.0, high=0.2, level=0.9)
    other = Comparison(id=2, kind="simple", name="two", what="simple merge", interval=interval)
    with pytest.raises(ValueError, match="levels"):
        verdict([comparison(1, "parent", 0.05, 0.02, 0.08), other])


def judged(p_value: float, low: float = 0.01) -> Verdict:
    """A verdict whose hardest comparison has a p value."""
    made = [comparison(1, "parent", 0.08, 0.05, 0.11), comparison(4, "simple", 0.04, low, 0.07)]
    return verdict(
        [replace(c, interval=replace(c.interval, p_value=p)) for c, p in zip(made, (0.0001, p_value), strict=True)]
    )


def test_other_front_members_are_corrected_for_their_number() -> None:
    members = {7: ("a", judged(0.004)), 8: ("b", judged(0.012)), 9: ("c", judged(0.02))}
    result = with_front(judged(0.001), members)
    assert [claim.adjusted for claim in result.front] == pytest.approx([0.012, 0.024, 0.024])
    assert [claim.claimed for claim in result.front] == [True, True, True]
    worse = with_front(judged(0.001), {**members, 10: ("d", judged(0.02))})
    assert [claim.adjusted for claim in worse.front] == pytest.approx([0.016, 0.036, 0.04, 0.04])
    assert [claim.claimed for claim in worse.front] == [True, False, False, False]
    assert "Of the front's 4 other members 1 also gain over every reference: a (p 0.016)" in worse.text
    assert worse.text.startswith(judged(0.001).text)
    assert (worse.gain, worse.claimed) == (0.04, True)


def test_no_other_front_member_gains_where_the_pick_does_not() -> None:
    pick = judged(0.2, low=-0.01)
    result = with_front(pick, {7: ("a", judged(0.0001))})
    assert not result.claimed
    assert not result.front[0].claimed
    assert result.front[0].adjusted == 0.2
    assert "No gain is claimed of the front's 1 other member either" in result.text


def test_a_front_member_that_misses_a_floor_or_loses_claims_nothing() -> None:
    result = with_front(judged(0.001), {7: ("a", judged(0.001, low=-0.01))})
    assert not result.front[0].claimed
    assert "no gain over every reference is claimed" in result.text


def test_a_front_of_one_changes_nothing() -> None:
    assert with_front(judged(0.001), {}) == judged(0.001)
