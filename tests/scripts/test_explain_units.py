"""Differences from mergekit's bf16 arithmetic get their true causes, and what is not that arithmetic gets none."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import explain_units

    yield explain_units
    sys.path.remove(str(SCRIPTS))


def bf16(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bfloat16)


def causes(script: Any, parents: Any, theirs: torch.Tensor) -> list[int]:
    return script.explain(parents, theirs, torch.arange(len(theirs))).tolist()


def test_a_tie_may_be_kept_anywhere(script: Any) -> None:
    """Two of four are kept; three are equally large. evomerge keeps the first, mergekit here the last."""
    parents = script.Parents(bf16(0, 0, 0, 0), [bf16(1, 1, 1, 5)], 1.0, 0.5)
    assert causes(script, parents, bf16(0, 0, 1, 5)) == [script.TIE, script.ROUNDING, script.TIE, script.ROUNDING]


def test_a_rounded_sum_elects_another_sign(script: Any) -> None:
    """1 * 0.4 is 0.400390625 in bf16: the weighted deltas 1.0 and -1.0 twice 0.5 cancel there, as in float32; with
    257 - 256 - 1.001953125 bf16 sees 256 - 256 - 1, so the sum's sign differs from that of -0.001953125."""
    models = [bf16(256), bf16(-256), bf16(-1)]
    base = bf16(-1)
    parents = script.Parents(base, models, 1.0, 1.0)
    # Deltas in float32: 257, -255, 0. In bf16: 256 (257 is halfway, to even), -255, 0. Both sums are positive.
    assert causes(script, parents, bf16(255)) == [script.ROUNDING]
    models = [bf16(256), bf16(-258)]  # deltas 257 and -257: the sum is 0, which counts as positive; in bf16 256 - 257
    parents = script.Parents(base, models, 1.0, 1.0)
    assert (models[1] - base).item() in (-256, -258)
    assert causes(script, parents, bf16(255)) == [script.ROUNDING]


def test_what_is_not_that_arithmetic_is_unexplained(script: Any) -> None:
    parents = script.Parents(bf16(0, 0, 0, 0), [bf16(1, 2, 3, 5)], 1.0, 0.5)
    assert causes(script, parents, bf16(0, 0, 3.5, 5)) == [0, 0, script.UNEXPLAINED, 0]


def test_units_are_those_of_bf16(script: Any) -> None:
    ours = bf16(1.0, 1.0, 256.0, -1.0)
    theirs = bf16(1.0078125, 1.015625, 258.0, -1.0)
    units = script.units_apart(torch.cat([ours, bf16(*[1.0] * 1000)]), torch.cat([theirs, bf16(*[1.0] * 1000)]))
    assert units[:4].tolist() == [1.0, 2.0, 1.0, 0.0]
