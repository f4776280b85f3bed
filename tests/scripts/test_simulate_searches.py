"""The simulation of whole searches knows the truth, and counts intervals that miss it and claims that are false."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, with few items."""
    sys.path.insert(0, str(SCRIPTS))
    module = import_module("simulate_searches")
    monkeypatch.setattr(module, "POOLS", {"search": 40, "select": 16, "report": 32})
    monkeypatch.setattr(module, "BUDGET_ITEMS", 400)
    yield module
    sys.path.remove(str(SCRIPTS))


def test_on_a_null_landscape_no_true_gain_is_positive(simulation: ModuleType) -> None:
    found = simulation.measure("3 points apart", 0)
    trues = [comparison["true"] for comparison in found["comparisons"]]
    assert found["pick"] == pytest.approx(0.6) or found["kept"]
    assert min(trues) == pytest.approx(0.0, abs=1e-9)
    assert max(trues) == pytest.approx(0.03)
    assert found["raw_less_true"] > 0


def test_a_planted_optimum_can_be_gained_on(simulation: ModuleType) -> None:
    found = simulation.measure(simulation.PLANTED, 0)
    assert found["pick"] > 0.4
    assert any(comparison["true"] > 0 for comparison in found["comparisons"])


def test_a_row_counts_misses_and_false_claims(simulation: ModuleType) -> None:
    def run(claimed: bool, low: float) -> dict[str, object]:
        return {
            "claimed": claimed,
            "kept": False,
            "comparisons": [{"gain": 0.05, "interval": [low, 0.1], "true": 0.0}],
            "reported_less_true": 0.05,
            "raw_less_true": 0.2,
        }

    row = simulation.row_of("all equal", [run(True, 0.01), run(False, -0.01)])
    assert row == "| all equal | 2 | 50.0% | 0% | 50.0% | 50.0% | +5.00 | +20.00 |"
