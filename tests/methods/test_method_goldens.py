"""Parity with mergekit 0.1.5 from stored numbers (scripts/make_goldens.py)."""

from pathlib import Path

import pytest
import torch
from merge_cases import DETERMINISTIC, random_case
from safetensors.torch import load_file

GOLDENS = load_file(Path(__file__).parents[1] / "golden" / "mergekit_methods.safetensors")


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_mergekit(name: str, dtype: torch.dtype) -> None:
    # In float64 the formulas agree to rounding; mergekit's ramplus_tl computes its factors in float32.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-7 if name == "ramplus_tl" else 1e-9
    numbers = [int(key.split("/")[1]) for key in GOLDENS if key.startswith(f"{name}/")]
    assert len(numbers) >= 24
    for number in numbers:
        golden = GOLDENS[f"{name}/{number}"]
        result = random_case(name, number, dtype).run().double()
        assert float((result - golden).abs().max() / golden.abs().max()) <= tolerance, number
