"""Random merges of small tensors, the same for every test that wants them: a method, inputs and settings."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from evomerge import methods
from evomerge.methods import (
    Inputs,
    Method,
    Parameter,
    Settings,
    Value,
)

SHAPES = [(1,), (7,), (64,), (1, 9), (9, 1), (3, 5), (16, 33), (40, 64), (4, 6, 5)]
METHODS = {name: methods.get(name) for name in methods.names()}
DETERMINISTIC = [name for name, method in METHODS.items() if not method.random]
SPREADS = (0.001, 0.05, 1.0)  # of task vectors, beside weights of spread 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """One merge. models: without the base of a method that requires one."""

    method: Method
    models: Sequence[torch.Tensor]
    base: torch.Tensor | None
    merge: Mapping[str, Value]
    parents: Sequence[Mapping[str, Value]]
    variants: Mapping[str, str] = field(default_factory=dict)

    def inputs(self, seed: int = 0) -> Inputs:
        names = [f"parent{i}" for i in range(len(self.models))]
        return Inputs(models=self.models, base=self.base, tensor="layer.weight", parents=names, seed=seed)

    def settings(self) -> Settings:
        return Settings.of(self.merge, self.parents, self.variants)

    def run(self, seed: int = 0, **options: object) -> torch.Tensor:
        """Return evomerge's result; options go to `merge_into`."""
        out = torch.empty(self.models[0].shape, dtype=self.models[0].dtype)
        assert methods.merge_into(out, self.method, self.inputs(seed), self.settings(), **options)
        return out


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
) -> Case:
    """Return a case with defaults for whatever is not given."""
    method = methods.get(name)
    shared = {p.name: p.default for p in method.parameters if p.per == "merge"} | merge
    own = {p.name: p.default for p in method.parameters if p.per != "merge"}
    each = [own | dict(parent) for parent in parents or [{}] * len(models)]
    return Case(method=method, models=models, base=base, merge=shared, parents=each, variants=variants or {})


def random_case(name: str, number: int, dtype: torch.dtype = torch.float32) -> Case:
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
    return Case(
        method=method,
        models=models,
        base=origin.to(dtype) if based else None,
        merge=_draw(method, "merge", generator),
        parents=[_draw(method, "own", generator) for _ in range(count)],
    )


def _draw(method: Method, per: str, generator: torch.Generator) -> dict[str, Value]:
    chosen = [p for p in method.parameters if (p.per == "merge") == (per == "merge")]
    return {p.name: _value(p, float(torch.rand((), generator=generator))) for p in chosen}


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
