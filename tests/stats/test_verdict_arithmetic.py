"""When a gain may be claimed, and what is said otherwise."""

import pytest

from evomerge.stats import (
    Comparator,
    Comparison,
    Interval,
    verdict,
)


def comparison(id: int, kind: Comparator, gain: float, low: float, high: float) -> Comparison:
    return Comparison(id=id, kind=kind, interval=Interval(gain=gain, low=low, high=high))


def test_a_gain_over_both_is_claimed_with_the_harder_numbers() -> None:
    result = verdict([comparison(1, "parent", 0.08, 0.05, 0.11), comparison(4, "simple", 0.04, 0.01, 0.07)])
    assert result.claimed and (result.gain, result.low, result.high) == (0.04, 0.01, 0.07)
    assert result.text == (
        "Gain: +0.0400 (paired 95% interval +0.0100 to +0.0700) over the best simple merge (candidate 4), "
        "the hardest comparison."
    )
    assert [c.id for c in result.comparisons] == [1, 4]


def test_the_lower_lower_end_decides_not_the_lower_gain() -> None:
    result = verdict([comparison(1, "parent", 0.05, -0.02, 0.12), comparison(4, "simple", 0.03, 0.01, 0.05)])
    assert not result.claimed and (result.gain, result.low) == (0.05, -0.02)
    assert result.text.startswith("No evidence of gain: +0.0500") and "best parent (candidate 1)" in result.text


@pytest.mark.parametrize("low", [0.0, -1e-9])
def test_a_lower_end_of_zero_is_no_gain(low: float) -> None:
    result = verdict([comparison(1, "parent", 0.05, low, 0.1), comparison(4, "simple", 0.05, 0.02, 0.1)])
    assert not result.claimed and "No evidence of gain" in result.text


@pytest.mark.parametrize(("kind", "absent"), [("parent", "best simple merge"), ("simple", "best parent")])
def test_one_kind_of_comparison_alone_claims_nothing(kind: Comparator, absent: str) -> None:
    result = verdict([comparison(1, kind, 0.05, 0.02, 0.08)])
    assert not result.claimed and f"no comparison with the {absent}" in result.text


def test_a_loss_is_called_one() -> None:
    result = verdict([comparison(1, "parent", -0.05, -0.08, -0.02), comparison(2, "simple", 0.2, 0.1, 0.3)])
    assert not result.claimed and result.text.startswith("A loss, not a gain: -0.0500")


def test_every_comparison_must_hold_when_there_are_several_of_a_kind() -> None:
    both = [comparison(1, "parent", 0.08, 0.05, 0.11), comparison(4, "simple", 0.04, 0.01, 0.07)]
    assert not verdict([*both, comparison(2, "parent", 0.02, -0.01, 0.05)]).claimed


def test_nothing_to_judge_and_mixed_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="no comparisons"):
        verdict([])
    other = Comparison(id=2, kind="simple", interval=Interval(gain=0.1, low=0.0, high=0.2, level=0.9))
    with pytest.raises(ValueError, match="levels"):
        verdict([comparison(1, "parent", 0.05, 0.02, 0.08), other])
