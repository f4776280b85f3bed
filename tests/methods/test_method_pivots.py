"""Selection by pivots finds the cut that sorting finds, whatever the sample says."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch

from evomerge.methods import Statistics
from evomerge.methods.statistics import select

SEARCH = "evomerge.methods.kernels.cpu._threshold_search"
SIZE = 150_001
SAMPLE = 1 << 12  # patterns that are drawn
LARGEST = 0x7FFFFFFF  # pattern


pytestmark = pytest.mark.usefixtures("compiled")


def few_values(generator: torch.Generator) -> torch.Tensor:
    """Half of it 0, as where a fine-tune left a coarse dtype's values alone."""
    values = torch.randint(-3, 4, (SIZE,), generator=generator).float() * 2.0**-9
    return values.masked_fill_(torch.rand(SIZE, generator=generator) < 0.5, 0)


def many_values(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(SIZE, generator=generator) * torch.logspace(-30, 20, SIZE)


def one_row_of_values(generator: torch.Generator) -> torch.Tensor:
    """Zeros but for a stretch that a sample may miss."""
    values = torch.zeros(SIZE)
    values[70_000:70_100] = torch.randn(100, generator=generator)
    return values


def descending(generator: torch.Generator) -> torch.Tensor:
    return torch.linspace(1, 0, SIZE)


VALUES = [few_values, many_values, one_row_of_values, descending]
MISLEADING = [
    None,
    np.zeros(SAMPLE, np.int32),
    np.full(SAMPLE, LARGEST, np.int32),
    np.linspace(1, LARGEST, SAMPLE).astype(np.int32),
]


@pytest.mark.parametrize("sample", MISLEADING, ids=["drawn", "zeros", "largest", "spread"])
@pytest.mark.parametrize("values", VALUES)
def test_finds_the_cut(
    values: Callable[[torch.Generator], torch.Tensor],
    sample: np.ndarray | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = values(torch.Generator().manual_seed(0))
    base = torch.zeros(SIZE)
    sizes = model.abs()
    if sample is not None:
        monkeypatch.setattr(f"{SEARCH}._sample", lambda deltas: sample)
    for count in (1, 100, 101, 777, SIZE // 2, SIZE):
        expected = select(lambda start, end: sizes[start:end], SIZE, count)
        assert Statistics([model], base).cut(0, count) == expected


def test_common_values_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that many elements share gets a pivot on either side of it, so that no second pass is needed."""
    model = few_values(torch.Generator().manual_seed(1))
    passes = []
    narrow = import_module(SEARCH)._narrowed
    monkeypatch.setattr(f"{SEARCH}._narrowed", lambda *arguments: passes.append(1) or narrow(*arguments))
    for count in range(1000, SIZE, 10_000):
        passes.clear()
        cut = Statistics([model], torch.zeros(SIZE)).cut(0, count)
        assert len(passes) == 1
        assert (model.abs() > cut.threshold).sum() <= count <= (model.abs() >= cut.threshold).sum()
