"""Large coefficients add up task vectors; the compiled sum of them gives the bytes of torch."""

import pytest
import torch
from merge_cases import case

from evomerge.methods.core import _linear_combination as _combination
from evomerge.methods.kernels.cpu import _dispatch as _fused


@pytest.mark.parametrize("weights", [(1.4, 1.3, 1.5), (-2.0, 3.0, 0.0), (40.0, -39.0, 0.5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_same_bytes_as_torch(dtype: torch.dtype, weights: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(70_001, generator=generator).to(dtype)
    models = [(base.float() + 0.05 * torch.randn(70_001, generator=generator)).to(dtype) for _ in weights]
    merge = case("task_arithmetic", models, base, [{"weight": weight} for weight in weights], **{"lambda": 1.0})
    monkeypatch.setattr(_fused, "WARM_UP_ELEMENTS", 0)
    used: list[bool] = []
    compiled = _combination._compiled_differences
    monkeypatch.setattr(_combination, "_compiled_differences", lambda *given: used.append(True) or compiled(*given))
    fused, gained = merge.run(), merge.run(gain=0.7)
    assert used == [True, True]
    monkeypatch.setattr(_fused, "kernels", lambda tensors: None)
    for found, expected in ((fused, merge.run()), (gained, merge.run(gain=0.7))):
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
