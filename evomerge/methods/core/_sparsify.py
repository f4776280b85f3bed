"""Thin each task vector, weight it, let signs be elected or not, add: the arithmetic of TIES, DARE, DELLA and kin."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from evomerge.methods import della as _ranked
from evomerge.methods.core import _random_mask as _random
from evomerge.methods.core._linear_combination import TINY
from evomerge.methods.core._method import (
    Arithmetic,
    Block,
    Inputs,
    Settings,
    Variant,
)
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms
from evomerge.methods.kernels.cpu import _dispatch as _fused
from evomerge.methods.kernels.cpu import _dispatch_sparse as _fused_sparse
from evomerge.methods.statistics._selection import Cut
from evomerge.methods.statistics._tables import Statistics

LARGEST = torch.finfo(torch.float32).max
SMALLEST_NORM = 1e-7  # an L1 norm below this is not matched by rescaling

SIGN_ELECTION = Variant(
    name="sign_election",
    options=("weighted", "unweighted"),
    doc="weighted: the sign is elected after weighting (mergekit); unweighted: before (paper)",
)
RESCALE_BY = Variant(
    name="rescale_by",
    options=("l1", "density"),
    doc="l1: a thinned task vector gets back its L1 norm (mergekit); density: divided by the probability (paper)",
)


@dataclass(frozen=True, slots=True)
class Sparse(Arithmetic):
    """base + lambda * (sum of thinned, weighted task vectors), with or without the election of signs.

    by: "magnitude" keeps the largest (Yadav 2023), "window" the largest but for the very largest (Davari 2023),
        "random" each with one probability (Yu 2024), "ranked" with one that grows with its rank (Deep 2024).
    elect: TIES' elected sign (Yadav 2023, section 3): where the weighted deltas sum to >= 0 only positive ones
        count, elsewhere only negative ones; normalize then divides by the weights of those that count.
    """

    by: Literal["magnitude", "window", "random", "ranked"]
    elect: bool

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> SparseTerms:
        unweighted = self.elect and settings.variant(SIGN_ELECTION) == "unweighted"
        weights = settings.each("weight")
        used = []
        for model, (weight, density) in enumerate(zip(weights, settings.each("density"), strict=True)):
            if weight == 0 or density <= 0 or (self.by == "random" and not _random.cut(density)):
                continue  # nothing of it is kept
            share = self._share(inputs, settings, statistics, model, density) if density < 1 else SparseTerm(1.0, 1.0)
            vote, post = (share.vote, weight) if unweighted else (share.vote * weight, 1.0)
            used.append((model, share._replace(weight=weight, vote=_single(vote), post=post)))
        total = sum(weights)
        divide = bool(settings.shared("normalize"))
        divisor = _single(total) if divide and not self.elect and abs(total) >= TINY else 1.0
        shares = SparseTerms(tuple(used), float(settings.shared("lambda")), divisor, divide and self.elect)
        return shares._replace(verbatim=_verbatim(shares))

    def _share(
        self, inputs: Inputs, settings: Settings, statistics: Statistics, model: int, density: float
    ) -> SparseTerm:
        """Return the share of a thinned model as if its weight were 1."""
        rescale = bool(settings.shared("rescale"))
        if self.by == "magnitude":
            count = statistics.magnitude(model, density)
            vote = match(statistics.kept_l1(model, count), statistics.kept_l1(model, statistics.size)) if rescale else 1
            return SparseTerm(1.0, vote, keep=statistics.cut(model, count))
        if self.by == "window":
            return _window(statistics, model, density, settings.each("gamma")[model], rescale)
        address = _random.keys(inputs.seed, inputs.parents[model], inputs.tensor)
        by_density = rescale and settings.variant(RESCALE_BY) == "density"
        if self.by == "random":
            vote = 1 / density if by_density else match(*statistics.random(model, density, address)) if rescale else 1
            return SparseTerm(1.0, vote, address=address, below=_random.cut(density))
        ranking = _ranked.ranking(statistics.shape, settings.each("epsilon")[model])
        matched = rescale and not by_density
        vote = match(*statistics.ranked(model, density, ranking, address)) if matched else 1.0
        below = _random.cut(density)
        return SparseTerm(1.0, vote, address=address, below=below, ranking=ranking, inverse=by_density)

    def combine(self, out: torch.Tensor, block: Block, coefficients: SparseTerms) -> None:
        assert block.base is not None
        if coefficients.verbatim is not None:
            out.copy_(block.models[coefficients.verbatim])
            return
        base = block.scratch.load("base", block.base)
        deltas = [_thinned(block, base, model, share).mul_(share.vote) for model, share in coefficients.models]
        if self.elect and deltas:
            _elect(out, block, deltas, [share for _, share in coefficients.models], coefficients.disjoint_mean)
        else:
            out.zero_()
            for delta in deltas:
                out.add_(delta)
        if coefficients.divisor != 1:
            out.div_(coefficients.divisor)
        if coefficients.scale != 1:
            out.mul_(coefficients.scale)
        out.add_(base)

    def fused(self, out: torch.Tensor, inputs: Inputs, coefficients: SparseTerms, gain: float) -> bool | None:
        assert inputs.base is not None
        if self.by == "ranked" or coefficients.verbatim is not None or not coefficients.models:
            return None
        models = [inputs.models[model] for model, _ in coefficients.models]
        code = _fused.kernels([out, inputs.base, *models])
        if code is None:
            return None
        return _fused_sparse.sparse(code, out, inputs.base, models, coefficients, self.elect, gain)

    def unit(self, inputs: Inputs) -> int:
        if self.by != "ranked":
            return 1
        return _ranked.ranking(inputs.models[0].shape, 0.0).unit


def _window(statistics: Statistics, model: int, density: float, gamma: float, rescale: bool) -> SparseTerm:
    """Keep int(density * n) elements below the int(gamma * n) largest, or fewer of those where both do not fit."""
    size = statistics.size
    kept = int(density * size)
    largest = min(int(gamma * size), size - kept)
    if kept and largest == int(gamma * size):  # otherwise it hangs on the density, too, and is worth no table
        statistics.magnitude(model, density, largest)
    keep, drop = statistics.cut(model, largest + kept), statistics.cut(model, largest)
    vote = 1.0
    if rescale:
        inner = statistics.kept_l1(model, largest + kept) - statistics.kept_l1(model, largest)
        vote = match(inner, statistics.kept_l1(model, size))
    return SparseTerm(1.0, vote, keep=keep, drop=drop if largest else None)


def _single(value: float) -> float:
    """Return infinity for what float32 does not hold, so that the result is not finite; torch takes no such factor."""
    return value if abs(value) <= LARGEST else math.copysign(math.inf, value)


def match(kept: float, everything: float) -> float:
    """Return the factor that restores the L1 norm of a thinned task vector."""
    return everything / kept if kept >= SMALLEST_NORM and everything >= SMALLEST_NORM else 1.0


def _verbatim(shares: SparseTerms) -> int | None:
    """Return the model that stands for the whole result: the only one, unthinned, with a total factor of 1."""
    if len(shares.models) != 1:
        return None
    (model, share), *_ = shares.models
    if share.keep is not None or share.address is not None:
        return None
    factor = 1.0 if shares.disjoint_mean else share.vote * share.post / shares.divisor
    return model if factor * shares.scale == 1 else None


def _thinned(block: Block, base: torch.Tensor, model: int, share: SparseTerm) -> torch.Tensor:
    """Return a model's task vector over one block with what its share leaves out multiplied by 0.

    Multiplied, because NaN and infinity come through that: a damaged parent must not vanish in a mask.
    """
    delta = block.scratch.load(f"delta{model}", block.models[model]).sub_(base)
    length = delta.numel()
    if share.keep is not None:
        size = torch.abs(delta, out=block.scratch.buffer("size", length))
        delta.mul_(_inside(block, size, share.keep))
        if share.drop is not None:
            delta.mul_(_inside(block, size, share.drop).logical_not_())
    elif share.address is not None:
        bits = _random.uniform_bits(share.address, block.start, length, delta.device)
        if share.ranking is None:
            return delta.mul_(bits < share.below)
        size = torch.abs(delta, out=block.scratch.buffer("size", length))
        below = _ranked.bonus(size, share.ranking).add_(share.below)
        delta.mul_(bits < below)
        if share.inverse:
            delta.div_(below.clamp_(1, _ranked.ONE).to(delta.dtype).div_(_ranked.ONE))
    return delta


def _inside(block: Block, size: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Return (n,) bool: which elements of a block a cut keeps."""
    found = torch.gt(size, cut.threshold, out=block.scratch.buffer("inside", size.numel(), torch.bool))
    tied = min(size.numel(), cut.tie_end - block.start)
    if tied > 0:
        torch.ge(size[:tied], cut.threshold, out=found[:tied])
    return found


def _elect(
    out: torch.Tensor, block: Block, deltas: list[torch.Tensor], shares: list[SparseTerm], disjoint_mean: bool
) -> None:
    """Sum the deltas whose sign agrees with the sign of their sum; a sum of 0 counts as positive. NaN agrees."""
    length = out.numel()
    total = block.scratch.buffer("total", length).copy_(deltas[0])
    for delta in deltas[1:]:
        total.add_(delta)
    sign = block.scratch.buffer("sign", length).copy_(total >= 0).mul_(2).sub_(1)
    divisor = block.scratch.buffer("divisor", length).zero_()
    out.zero_()
    for delta, share in zip(deltas, shares, strict=True):
        differs = torch.mul(delta, sign, out=total) <= 0
        delta.masked_fill_(differs, 0)
        out.add_(delta if share.post == 1 else delta.mul_(share.post))
        if disjoint_mean:
            divisor.add_(differs.logical_not_(), alpha=share.weight)
    if disjoint_mean:
        out.div_(divisor.masked_fill_(divisor == 0, 1))
