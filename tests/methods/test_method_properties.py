"""Any settings within a method's bounds, the bounds included: a finite result, and inputs left alone."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merge_cases import METHODS

from evomerge import methods
from evomerge.errors import MergeFailed
from evomerge.methods import Method, Parameter
from evomerge.testing.methods import DTYPES, SHAPES, MergeCase


def values(parameter: Parameter) -> st.SearchStrategy[float | int | bool]:
    if parameter.kind == "flag":
        return st.booleans()
    if parameter.kind == "integer":
        return st.integers(0, 12)
    low = parameter.low if math.isfinite(parameter.low) else -2.0
    high = parameter.high if math.isfinite(parameter.high) else 2.0
    return st.one_of(st.sampled_from([low, high, 0.5]), st.floats(low, high))


@st.composite
def cases(draw: st.DrawFn, method: Method) -> MergeCase:
    low, high = method.inputs
    count = draw(st.integers(low, min(high or low + 3, low + 3)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    spread = draw(st.sampled_from([0.0, 1e-4, 1.0]))
    origin = draw(st.sampled_from([0.0, 1.0])) * torch.randn(shape, generator=generator)
    models = [(origin + spread * torch.randn(shape, generator=generator)).to(dtype) for _ in range(count)]
    based = method.base == "required" or (method.base == "optional" and draw(st.booleans()))
    return MergeCase(
        method=method,
        models=models,
        base=origin.to(dtype) if based else None,
        merge={p.name: draw(values(p)) for p in method.parameters if p.per == "merge"},
        parents=[{p.name: draw(values(p)) for p in method.parameters if p.per != "merge"} for _ in range(count)],
        variants={v.name: draw(st.sampled_from(v.options)) for v in method.variants},
    )


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_finite_and_harmless(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(METHODS[name]))
    tensors = [*case.models, *([] if case.base is None else [case.base])]
    before = [tensor.clone() for tensor in tensors]
    out = torch.full(case.models[0].shape, float("nan"), dtype=case.models[0].dtype)
    try:
        finite = methods.merge_into(out, case.method, case.inputs(), case.settings())
    except MergeFailed as refused:
        assert "layer.weight" in str(refused)
    else:
        # Weights of both signs may sum to nearly 0 and then amplify without bound; the flag says so.
        assert finite == bool(torch.isfinite(out).all())
        assert finite or case.models[0].dtype == torch.float16 or _cancels(case)
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))


def _cancels(case: MergeCase) -> bool:
    weights = [float(parent.get("weight", 1.0)) for parent in case.parents]
    return min(weights) < 0 < max(weights)
