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
    """The differences 257, -256 and -0.5 sum to 0.5; in bf16 257 is 256, and they sum to -0.5."""
    parents = script.Parents(bf16(1), [bf16(258), bf16(-255), bf16(0.5)], 1.0, 1.0)
    mean = bf16(-256.5) / 2
    assert causes(script, parents, 1 + mean) == [script.SIGN]
    assert causes(script, parents, bf16(258)) == [script.UNEXPLAINED]  # evomerge's own result


def test_what_is_not_that_arithmetic_is_unexplained(script: Any) -> None:
    parents = script.Parents(bf16(0, 0, 0, 0), [bf16(1, 2, 3, 5)], 1.0, 0.5)
    assert causes(script, parents, bf16(0, 0, 3.5, 5)) == [0, 0, script.UNEXPLAINED, 0]


def test_units_are_those_of_bf16(script: Any) -> None:
    ours = bf16(1.0, 1.0, 256.0, -1.0)
    theirs = bf16(1.0078125, 1.015625, 258.0, -1.0)
    units = script.units_apart(torch.cat([ours, bf16(*[1.0] * 1000)]), torch.cat([theirs, bf16(*[1.0] * 1000)]))
    assert units[:4].tolist() == [1.0, 2.0, 1.0, 0.0]
