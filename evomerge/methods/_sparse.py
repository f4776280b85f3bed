"""Methods that thin each task vector before adding it: threshold or mask per element, then one fused pass."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from evomerge.methods import _random
from evomerge.methods._combination import INT8_MASK, LAMBDA, TINY, WEIGHT, normalize
from evomerge.methods._spec import Block, Inputs, Method, Parameter, Settings
from evomerge.methods._statistics import Cut, Statistics

SMALLEST_NORM = 1e-7  # an L1 norm below this is not matched by rescaling


class Share(NamedTuple):
    """What one model contributes: `weight` counts in the divisor, `factor` = weight * rescaling multiplies the delta.

    Keeps what `cut` says (by magnitude), or where the addressed random number is below `below`; all if both are None;
    nothing at all when `factor` is 0.
    """

    weight: float
    factor: float
    cut: Cut | None = None
    address: tuple[int, int] | None = None
    below: int = 0


class Shares(NamedTuple):
    """The numbers of a sparse merge. divisor: of the sum without consensus (1 = undivided)."""

    models: tuple[Share, ...]
    scale: float
    divisor: float
    disjoint_mean: bool


@dataclass(frozen=True, slots=True)
class _Sparse:
    """base + lambda * (sum of thinned, weighted task vectors), with or without the election of signs.

    consensus: TIES' elected sign (Yadav 2023, section 3): where the weighted deltas sum to >= 0 only positive ones
    count, elsewhere only negative ones; normalize then divides by the weights of those that count.
    """

    by: Literal["magnitude", "random"]
    consensus: bool

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> Shares:
        weights, rescale = settings.each("weight"), bool(settings.shared("rescale"))
        shares = []
        for model, (weight, density) in enumerate(zip(weights, settings.each("density"), strict=True)):
            if density >= 1:
                shares.append(Share(weight, weight))
            elif density <= 0:
                shares.append(Share(weight, 0.0))
            else:
                shares.append(self._share(inputs, statistics, model, weight, density, rescale))
        total = sum(weights)
        divide = bool(settings.shared("normalize"))
        divisor = total if divide and not self.consensus and abs(total) >= TINY else 1.0
        return Shares(tuple(shares), float(settings.shared("lambda")), divisor, divide and self.consensus)

    def _share(
        self, inputs: Inputs, statistics: Statistics, model: int, weight: float, density: float, rescale: bool
    ) -> Share:
        if self.by == "magnitude":
            cut = statistics.magnitude(model, density)
            return Share(weight, weight * (_match(cut.kept_l1, cut.all_l1) if rescale else 1.0), cut)
        address = _random.keys(inputs.seed, inputs.parents[model], inputs.tensor)
        factor = _match(*statistics.random(model, density, address)) if rescale else 1.0
        return Share(weight, weight * factor, None, address, _random.cut(density))

    def combine(self, out: torch.Tensor, block: Block, coefficients: Shares) -> None:
        assert block.base is not None
        base = block.scratch.load("base", block.base)
        used = [(i, share) for i, share in enumerate(coefficients.models) if share.factor != 0]
        deltas = [_thinned(block, base, i, share).mul_(share.factor) for i, share in used]
        if self.consensus and deltas:
            weights = [share.weight for _, share in used]
            _elect(out, block, deltas, weights, coefficients.disjoint_mean)
        else:
            out.zero_()
            for delta in deltas:
                out.add_(delta)
        if coefficients.divisor != 1:
            out.div_(coefficients.divisor)
        if coefficients.scale != 1:
            out.mul_(coefficients.scale)
        out.add_(base)


def _match(kept: float, everything: float) -> float:
    """Return the factor that restores the L1 norm of a thinned task vector (mergekit's rule; DARE's is 1/density)."""
    return everything / kept if kept >= SMALLEST_NORM and everything >= SMALLEST_NORM else 1.0


def _thinned(block: Block, base: torch.Tensor, model: int, share: Share) -> torch.Tensor:
    delta = block.scratch.load(f"delta{model}", block.models[model]).sub_(base)
    length = delta.numel()
    if share.cut is not None:
        size = torch.abs(delta, out=block.scratch.buffer("size", length))
        drop = torch.le(size, share.cut.threshold, out=block.scratch.buffer("drop", length, torch.bool))
        tied = min(length, share.cut.tie_end - block.start)
        if tied > 0:
            drop[:tied].logical_and_(size[:tied] != share.cut.threshold)
        delta.masked_fill_(drop, 0)
    elif share.address is not None:
        bits = _random.uniform_bits(share.address, block.start, length, delta.device)
        delta.masked_fill_(bits >= share.below, 0)
    return delta


def _elect(
    out: torch.Tensor, block: Block, deltas: list[torch.Tensor], weights: list[float], disjoint_mean: bool
) -> None:
    """Sum the deltas whose sign agrees with the sign of their sum; a sum of 0 counts as positive."""
    length = out.numel()
    total = block.scratch.buffer("total", length).copy_(deltas[0])
    for delta in deltas[1:]:
        total.add_(delta)
    sign = block.scratch.buffer("sign", length).copy_(total >= 0).mul_(2).sub_(1)
    divisor = block.scratch.buffer("divisor", length).zero_()
    out.zero_()
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = torch.mul(delta, sign, out=total) > 0
        out.add_(delta.masked_fill_(agrees.logical_not(), 0))
        if disjoint_mean:
            divisor.add_(agrees, alpha=weight)
    if disjoint_mean:
        out.div_(divisor.masked_fill_(divisor == 0, 1))


def _parameters(*, normalized: bool, rescaled: bool) -> tuple[Parameter, ...]:
    return (
        WEIGHT,
        Parameter(
            name="density",
            per="parent",
            default=1.0,
            low=0.0,
            high=1.0,
            gene=(0.1, 1.0),
            positive=True,
            doc="fraction of each task vector that is kept",
        ),
        normalize(normalized),
        Parameter(
            name="rescale",
            per="merge",
            kind="flag",
            default=rescaled,
            doc="scale a thinned task vector back to its L1 norm",
        ),
        LAMBDA,
        INT8_MASK,
    )


TIES = Method(
    name="ties",
    title="TIES: trim, elect sign, disjoint merge",
    formula="base + lambda * mean over agreeing models of trimmed w_i (x_i - base)",
    paper="Yadav 2023, https://arxiv.org/abs/2306.01708",
    base="required",
    inputs=(1, None),
    parameters=_parameters(normalized=True, rescaled=False),
    arithmetic=_Sparse("magnitude", consensus=True),
)

DARE_TIES = Method(
    name="dare_ties",
    title="DARE with sign election",
    formula="base + lambda * sum over agreeing models of w_i rescale(drop(x_i - base))",
    paper="Yu 2024, https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(1, None),
    parameters=_parameters(normalized=False, rescaled=True),
    arithmetic=_Sparse("random", consensus=True),
)

DARE_LINEAR = Method(
    name="dare_linear",
    title="DARE: drop and rescale",
    formula="base + lambda * sum(w_i rescale(drop(x_i - base)))",
    paper="Yu 2024, https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(1, None),
    parameters=_parameters(normalized=False, rescaled=True),
    arithmetic=_Sparse("random", consensus=False),
)
