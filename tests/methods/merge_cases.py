"""Random merges of small tensors, the same for every test that wants them: a method, inputs and settings."""

import math
import zlib
from collections.abc import Mapping, Sequence

import torch

from evomerge import methods
from evomerge.methods import Method, Parameter, Value
from evomerge.testing.methods import MergeCase

SHAPES = [(1,), (7,), (64,), (1, 9), (9, 1), (3, 5), (16, 33), (40, 64), (4, 6, 5)]
METHODS = {name: methods.get(name) for name in methods.names()}
RANDOM = [name for name, method in METHODS.items() if method.random]
DETERMINISTIC = [name for name, method in METHODS.items() if not method.random]
SPREADS = (0.001, 0.05, 1.0)  # of task vectors, beside weights of spread 1


def merge(
    name: str,
    models: Sequence[torch.Tensor],
    base: torch.Tensor | None = None,
    parents: Sequence[Mapping[str, Value]] | None = None,
    variants: Mapping[str, str] | None = None,
    **merge: Value,
) -> torch.Tensor:
    """Merge with defaults for whatever is not given."""
    return case(name, models, base, parents, variants, **merge).run()


def case(
    name: str,
    models: Sequence[torch.Tensor],
    base: torch.Tensor | None = None,
    parents: Sequence[Mapping[str, Value]] | None = None,
    variants: Mapping[str, str] | None = None,
    **merge: Value,
) -> MergeCase:
    """Return a case with defaults for whatever is not given."""
    method = methods.get(name)
    shared = {p.name: p.default for p in method.parameters if p.per == "merge"} | merge
    own = {p.name: p.default for p in method.parameters if p.per != "merge"}
    each = [own | dict(parent) for parent in parents or [{}] * len(models)]
    return MergeCase(method=method, models=models, base=base, merge=shared, parents=each, variants=variants or {})


# Parameters without effect that methods had when the stored numbers were made: as many are drawn after the others.
_SPARSE = ("ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce")
FORMER = {("task_arithmetic", "merge"): 2, ("task_arithmetic", "own"): 1, **{(name, "merge"): 1 for name in _SPARSE}}


def random_case(name: str, number: int, dtype: torch.dtype = torch.float32) -> MergeCase:
    """Return case `number` of a method: shape, spread, inputs and settings all follow from the two."""
    method = methods.get(name)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {number}".encode()))
    shape = SHAPES[number % len(SHAPES)]
    spread = SPREADS[number // len(SHAPES) % len(SPREADS)]
    low, high = method.inputs
    count = max(low, min(high or 4, low + int(torch.randint(4, (), generator=generator))))
    origin = torch.randn(shape, generator=generator)
    models = [(origin + spread * torch.randn(shape, generator=generator)).to(dtype) for _ in range(count)]
    based = method.base == "required" or (method.base == "optional" and number % 2 == 0)
    return MergeCase(
        method=method,
        models=models,
        base=origin.to(dtype) if based else None,
        merge=_draw(method, "merge", generator),
        parents=[_draw(method, "own", generator) for _ in range(count)],
    )


def _draw(method: Method, per: str, generator: torch.Generator) -> dict[str, Value]:
    chosen = [p for p in method.parameters if (p.per == "merge") == (per == "merge")]
    values = {p.name: _value(p, float(torch.rand((), generator=generator))) for p in chosen}
    torch.rand(FORMER.get((method.name, per), 0), generator=generator)
    return values


def _value(parameter: Parameter, u: float) -> Value:
    if parameter.kind == "flag":
        return u < 0.5
    if parameter.kind == "integer":
        return int(parameter.default or 0)
    if parameter.name == "density":  # DELLA needs room for its epsilon on both sides
        return round(0.2 + 0.6 * u, 3)
    if parameter.name == "epsilon" and parameter.per == "parent":
        return round(0.19 * u, 3)
    if parameter.name == "lambda":
        return round(0.5 + u, 3)
    if parameter.gene is not None:
        low, high = parameter.gene
        return low + (high - low) * round(0.05 + 0.9 * u, 3)
    assert parameter.default is not None and math.isfinite(float(parameter.default))
    return parameter.default
