"""Methods that are one linear combination of their inputs: the Gram matrix gives the coefficients."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from evomerge.errors import MergeFailed
from evomerge.methods.core._method import (
    Arithmetic,
    Block,
    Inputs,
    Method,
    Parameter,
    Settings,
)
from evomerge.methods.kernels.cpu import _dispatch as _fused
from evomerge.methods.statistics._gram import Axis, fibers
from evomerge.methods.statistics._tables import Statistics

TINY = 1e-8  # weight sums closer to 0 than this have no meaningful quotient
AMPLIFYING = 4.0  # sum of |coefficients| above which rounding would show, and differences are added up instead
PARALLEL = 0.9995  # |cosine| above which the arc is taken as straight


class Combination(NamedTuple):
    """out = base * `base` + sum of model_i * `models[i]`."""

    base: float
    models: tuple[float, ...]


class FiberCombination(NamedTuple):
    """A linear combination with coefficients of its own for each fiber: position p belongs to (p // run) % groups.

    base: (groups,) or None. models: one (groups,) for each, float64.
    """

    base: torch.Tensor | None
    models: tuple[torch.Tensor, ...]
    run: int

    @classmethod
    def of(cls, based: bool, factors: Sequence[torch.Tensor], shape: Sequence[int], axis: Axis) -> "FiberCombination":
        """Return sum(c_i x_i), or with `based` base + sum(c_i (x_i - base)), over the fibers of a shape."""
        _, run = fibers(shape, axis)
        return cls(1.0 - torch.stack(list(factors)).sum(0) if based else None, tuple(factors), run)


Linear = Combination | FiberCombination


def combine(out: torch.Tensor, block: Block, coefficients: Linear) -> None:
    """Write the linear combination of one block. A coefficient of 0 leaves its input unread."""
    if isinstance(coefficients, FiberCombination):
        _combine_fibers(out, block, coefficients)
        return
    if amplifies(block.base, coefficients):
        _combine_differences(out, block, coefficients)
        return
    tensors = [block.base, *block.models] if block.base is not None else list(block.models)
    factors = [coefficients.base, *coefficients.models] if block.base is not None else list(coefficients.models)
    used = [(tensor, factor) for tensor, factor in zip(tensors, factors, strict=True) if factor != 0]
    if not used:
        out.zero_()
        return
    (first, factor), *rest = used
    out.copy_(first)
    if factor != 1:
        out.mul_(factor)
    for tensor, factor in rest:
        out.add_(block.scratch.load("term", tensor).mul_(factor))


def fused(out: torch.Tensor, inputs: Inputs, coefficients: Linear, gain: float) -> bool | None:
    """Write the same sum in one compiled pass; None where there is none."""
    if isinstance(coefficients, FiberCombination):
        return None
    if amplifies(inputs.base, coefficients):
        return _fused_differences(out, inputs, coefficients, gain)
    terms = [*([] if inputs.base is None else [(inputs.base, coefficients.base)])]
    terms += zip(inputs.models, coefficients.models, strict=True)
    terms = [(tensor, factor) for tensor, factor in terms if factor != 0]
    code = _fused.kernels([out, *(tensor for tensor, _ in terms)])
    if code is None or not terms:
        return None
    factors = np.array([factor for _, factor in terms], dtype=np.float32)
    where = _fused.addresses([tensor for tensor, _ in terms])
    return bool(code.combine(*where, factors, *_fused.address(out), out.numel(), gain))


def _fused_differences(out: torch.Tensor, inputs: Inputs, coefficients: Combination, gain: float) -> bool | None:
    assert inputs.base is not None
    code = _fused.kernels([out, inputs.base, *inputs.models])
    if code is None:
        return None
    share = coefficients.base + math.fsum(coefficients.models)
    factors = np.array(coefficients.models, dtype=np.float32)
    where = (*_fused.address(inputs.base), *_fused.addresses(inputs.models))
    return bool(code.differences(*where, share, factors, *_fused.address(out), out.numel(), gain))


def amplifies(base: torch.Tensor | None, coefficients: Combination) -> bool:
    """Return whether coefficients are so large that task vectors are added up instead of tensors."""
    return base is not None and abs(coefficients.base) + sum(map(abs, coefficients.models)) > AMPLIFYING


def _combine_differences(out: torch.Tensor, block: Block, coefficients: Combination) -> None:
    """Write the same sum from task vectors, which large coefficients amplify the least."""
    assert block.base is not None
    base = block.scratch.load("base", block.base)
    torch.mul(base, coefficients.base + math.fsum(coefficients.models), out=out)
    for tensor, factor in zip(block.models, coefficients.models, strict=True):
        out.add_(block.scratch.load("term", tensor).sub_(base).mul_(factor))


def _combine_fibers(out: torch.Tensor, block: Block, coefficients: FiberCombination) -> None:
    position = torch.arange(block.start, block.start + out.numel(), device=out.device)
    fiber = position.div_(coefficients.run, rounding_mode="floor").remainder_(coefficients.models[0].numel())
    terms = list(zip(block.models, coefficients.models, strict=True))
    if block.base is not None and coefficients.base is not None:
        terms.insert(0, (block.base, coefficients.base))
    out.zero_()
    for tensor, factors in terms:
        factor = factors.to(out.device, out.dtype)[fiber]
        out.add_(block.scratch.load("term", tensor).mul_(factor))


class _Linear(Arithmetic):
    """Weighted mean: sum(w_i x_i) / sum(w_i), or the plain sum."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        weights = settings.each("weight")
        if settings.shared("normalize"):
            total = math.fsum(weights)
            if abs(total) < TINY:
                raise MergeFailed(f"{inputs.tensor}: the weights sum to {total:g}; normalize: true needs another sum")
            weights = [weight / total for weight in weights]
        return Combination(0.0, tuple(weights))

    combine = staticmethod(combine)
    fused = staticmethod(fused)


class _TaskArithmetic(Arithmetic):
    """base + lambda * sum(w_i (x_i - base)), divided by sum(w_i) with normalize."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        weights = scaled(settings.each("weight"), settings)
        return Combination(1.0 - math.fsum(weights), tuple(weights))

    combine = staticmethod(combine)
    fused = staticmethod(fused)


def scaled(weights: Sequence[float], settings: Settings) -> list[float]:
    """Apply `lambda` and `normalize` to task-vector weights; a zero sum is left undivided, as mergekit does."""
    factor = float(settings.shared("lambda"))
    if settings.shared("normalize"):
        total = math.fsum(weights)
        factor /= total if abs(total) >= TINY else 1.0
    return [weight * factor for weight in weights]


class _Slerp(Arithmetic):
    """Spherical interpolation from the base (t = 0) to the model (t = 1), on the un-normalized vectors."""

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Combination:
        t = float(settings.shared("t"))
        if t in (0.0, 1.0):
            return Combination(1.0 - t, (t,))
        gram = statistics.gram()
        base2, cross, delta2 = (float(gram[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        model2 = max(base2 + 2 * cross + delta2, 0.0)
        norms = [math.sqrt(square) if square > TINY**2 else 1.0 for square in (base2, model2)]
        cosine = max(-1.0, min(1.0, (base2 + cross) / (norms[0] * norms[1])))
        if abs(cosine) > PARALLEL:
            return Combination(1.0 - t, (t,))
        angle = math.acos(cosine)
        return Combination(math.sin((1 - t) * angle) / math.sin(angle), (math.sin(t * angle) / math.sin(angle),))

    combine = staticmethod(combine)
    fused = staticmethod(fused)


WEIGHT = Parameter(name="weight", per="parent", gene=(0.0, 1.5), doc="share of this model")
LAMBDA = Parameter(name="lambda", per="merge", default=1.0, doc="factor on the summed task vectors")
INT8_MASK = Parameter(
    name="int8_mask", per="merge", kind="flag", default=False, effect=False, doc="mergekit's memory switch"
)


def normalize(default: bool) -> Parameter:
    """Return the `normalize` parameter with a method's own default."""
    return Parameter(name="normalize", per="merge", kind="flag", default=default, doc="divide by the sum of weights")


LINEAR = Method(
    name="linear",
    title="Linear (model soup)",
    formula="sum(w_i x_i) / sum(w_i)",
    paper="Wortsman 2022, https://arxiv.org/abs/2203.05482",
    base="input",
    inputs=(1, None),
    parameters=(
        Parameter(name="weight", per="input", gene=(0.0, 1.0), doc="share of this model"),
        normalize(True),
    ),
    arithmetic=_Linear(),
)

TASK_ARITHMETIC = Method(
    name="task_arithmetic",
    title="Task arithmetic",
    formula="base + lambda * sum(w_i (x_i - base))",
    paper="Ilharco 2023, https://arxiv.org/abs/2212.04089",
    base="required",
    inputs=(1, None),
    parameters=(
        WEIGHT,
        normalize(False),
        LAMBDA,
        INT8_MASK,
        Parameter(name="density", per="parent", default=1.0, effect=False, doc="used by the sparse methods only"),
        Parameter(
            name="rescale", per="merge", kind="flag", default=False, effect=False, doc="used by the sparse methods only"
        ),
    ),
    arithmetic=_TaskArithmetic(),
)

SLERP = Method(
    name="slerp",
    title="Spherical linear interpolation",
    formula="sin((1-t)a)/sin(a) base + sin(t a)/sin(a) x, a = angle between them; a line when |cos a| > 0.9995",
    paper="Shoemake 1985, https://doi.org/10.1145/325334.325242",
    base="required",
    inputs=(1, 1),
    parameters=(Parameter(name="t", per="merge", gene=(0.0, 1.0), doc="0 = the base, 1 = the other model"),),
    arithmetic=_Slerp(),
    passes=2,
)
