"""Simulated proofs where nothing beats the best reference; `scripts/simulate_claims.py` is the full version."""

import pytest

from evomerge.testing.claims import ClaimSetting, simulate_claims

PARENTS = {0: (0.60,) * 4, 2: (0.60, 0.58, 0.58, 0.58), 3: (0.60, 0.57, 0.57, 0.57)}


@pytest.mark.parametrize("apart", PARENTS)
def test_gains_that_are_not_there_are_hardly_ever_claimed(apart: int) -> None:
    setting = ClaimSetting(parents=PARENTS[apart], simple=(0.50,), resamples=200)
    found = simulate_claims(setting, runs=200, seed=apart)
    assert found.claimed <= 0.033
    assert 0.93 <= found.covered <= 0.98, "1,000 intervals, of which those of one run are related"
    assert found.above <= 0.04


def test_clusters_that_are_known_are_covered_and_others_are_not() -> None:
    known, unknown = (
        simulate_claims(
            ClaimSetting(
                parents=PARENTS[2], simple=(0.50,), cluster_size=10, clusters_known=known, report=500, resamples=200
            ),
            runs=100,
            seed=1,
        )
        for known in (True, False)
    )
    assert known.claimed <= 0.033
    assert known.covered >= 0.93
    assert unknown.covered < 0.85


def test_a_gain_that_is_there_is_claimed() -> None:
    setting = ClaimSetting(parents=(0.6, 0.6), simple=(0.5,), finalists=(0.75,) * 3, resamples=300)
    found = simulate_claims(setting, runs=50, seed=0)
    assert found.claimed >= 0.9 and found.kept == 0
