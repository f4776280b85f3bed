"""What each model contributes to a sparse merge, in numbers, and the merge in plain torch."""

from typing import Literal, NamedTuple

import torch

from evomerge.methods.core._random_mask import ONE, MagnitudeRanks, rank_bonus, uniform_bits
from evomerge.methods.core._records import Block
from evomerge.methods.statistics._selection import Cut

Thinning = Literal["magnitude", "window", "random", "ranked"]


class SparseTerm(NamedTuple):
    """What one model contributes.

    Attributes:
        weight: what the model counts in the divisor.
        sign_weight: factor on its thinned task vector before signs are elected.
        post_scale: factor after that.
        keep: only the elements in this cut are kept; None = all.
        drop: and not those in this one.
        address: keys of the random numbers that decide; None = nothing is left to chance.
        keep_below: elements whose random number is below this are kept.
        ranking: adds to `keep_below` by rank.
        inverse: what is kept is divided by its keep probability.
    """

    weight: float
    sign_weight: float
    post_scale: float = 1.0
    keep: Cut | None = None
    drop: Cut | None = None
    address: tuple[int, int] | None = None
    keep_below: int = 0
    ranking: MagnitudeRanks | None = None
    inverse: bool = False


class SparseTerms(NamedTuple):
    """The numbers of a sparse merge: base + scale * (sum of thinned, weighted task vectors) / divisor.

    Attributes:
        thinning: what decides which elements are kept (see `SparseMethod`).
        elect: whether signs are elected (Yadav 2023, section 3).
        models: (index, term) of those that contribute.
        scale: `lambda`.
        divisor: of the sum without election (1 = undivided).
        disjoint_mean: whether an elected sum is divided by the weights of those that count.
        verbatim: the model that is the result as it stands, if one is.
    """

    thinning: Thinning
    elect: bool
    models: tuple[tuple[int, SparseTerm], ...]
    scale: float
    divisor: float = 1.0
    disjoint_mean: bool = False
    verbatim: int | None = None


def combine(out: torch.Tensor, block: Block, terms: SparseTerms) -> None:
    """Write one block of a sparse merge."""
    assert block.base is not None
    if terms.verbatim is not None:
        out.copy_(block.models[terms.verbatim])
        return
    base = block.scratch.load("base", block.base)
    deltas = [_thinned(block, base, model, term).mul_(term.sign_weight) for model, term in terms.models]
    if terms.elect and deltas:
        _elect(out, block, deltas, [term for _, term in terms.models], terms.disjoint_mean)
    else:
        out.zero_()
        for delta in deltas:
            out.add_(delta)
    if terms.divisor != 1:
        out.div_(terms.divisor)
    if terms.scale != 1:
        out.mul_(terms.scale)
    out.add_(base)


def _thinned(block: Block, base: torch.Tensor, model: int, term: SparseTerm) -> torch.Tensor:
    """Return a model's task vector over one block with what its term leaves out multiplied by 0.

    Multiplied, because NaN and infinity come through that: a damaged parent must not vanish in a mask.
    """
    delta = block.scratch.load(f"delta{model}", block.models[model]).sub_(base)
    length = delta.numel()
    if term.keep is not None:
        size = torch.abs(delta, out=block.scratch.buffer("size", length))
        delta.mul_(_inside(block, size, term.keep))
        if term.drop is not None:
            delta.mul_(_inside(block, size, term.drop).logical_not_())
    elif term.address is not None:
        bits = uniform_bits(term.address, block.start, length, delta.device)
        if term.ranking is None:
            return delta.mul_(bits < term.keep_below)
        size = torch.abs(delta, out=block.scratch.buffer("size", length))
        keep_below = rank_bonus(size, term.ranking).add_(term.keep_below)
        delta.mul_(bits < keep_below)
        if term.inverse:
            delta.div_(keep_below.clamp_(1, ONE).to(delta.dtype).div_(ONE))
    return delta


def _inside(block: Block, size: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Return (n,) bool: which elements of a block a cut keeps."""
    found = torch.gt(size, cut.threshold, out=block.scratch.buffer("inside", size.numel(), torch.bool))
    tied = min(size.numel(), cut.tie_end - block.start)
    if tied > 0:
        torch.ge(size[:tied], cut.threshold, out=found[:tied])
    return found


def _elect(
    out: torch.Tensor, block: Block, deltas: list[torch.Tensor], terms: list[SparseTerm], disjoint_mean: bool
) -> None:
    """Sum the deltas whose sign agrees with the sign of their sum; a sum of 0 counts as positive. NaN agrees."""
    length = out.numel()
    total = block.scratch.buffer("total", length).copy_(deltas[0])
    for delta in deltas[1:]:
        total.add_(delta)
    sign = block.scratch.buffer("sign", length).copy_(total >= 0).mul_(2).sub_(1)
    divisor = block.scratch.buffer("divisor", length).zero_()
    out.zero_()
    for delta, term in zip(deltas, terms, strict=True):
        differs = torch.mul(delta, sign, out=total) <= 0
        delta.masked_fill_(differs, 0)
        out.add_(delta if term.post_scale == 1 else delta.mul_(term.post_scale))
        if disjoint_mean:
            divisor.add_(differs.logical_not_(), alpha=term.weight)
    if disjoint_mean:
        out.div_(divisor.masked_fill_(divisor == 0, 1))
