"""Merges run in torch, except where a test is about compiled kernels: each kind of merge takes seconds to compile."""

from collections.abc import Iterator

import pytest

from evomerge.methods import use_kernels


@pytest.fixture(autouse=True)
def _in_torch() -> Iterator[None]:
    with use_kernels("never"):
        yield


@pytest.fixture
def compiled(_in_torch: None) -> Iterator[None]:
    """Merge with compiled kernels."""
    pytest.importorskip("numba")
    with use_kernels("always"):
        yield
