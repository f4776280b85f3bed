"""What TIES, DARE, DELLA and others share: thin each task vector, weight it, elect signs or not, add."""

import math
from typing import ClassVar, final

import torch

from evomerge.methods.core._linear_combination import LAMBDA, SMALLEST_SUM, WEIGHT, normalize
from evomerge.methods.core._method import Contributions, Method
from evomerge.methods.core._random_mask import keep_bound, mask_keys, ranks_of
from evomerge.methods.core._records import Block, Inputs, Parameter, Settings, Variant
from evomerge.methods.core._sparse_terms import SparseTerm, SparseTerms, Thinning, combine
from evomerge.methods.kernels.cpu import _dispatch as cpu
from evomerge.methods.kernels.cpu import _dispatch_sparse as cpu_sparse
from evomerge.methods.kernels.gpu import _dispatch as gpu
from evomerge.methods.statistics import Statistics

LARGEST = torch.finfo(torch.float32).max
SMALLEST_L1 = 1e-7  # an L1 norm below this is not matched by rescaling

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
_DENSITY = Parameter(
    name="density",
    per="parent",
    default=1.0,
    low=0.0,
    high=1.0,
    gene=(0.1, 1.0),
    positive=True,
    doc="fraction of each task vector that is kept; 0 = none of it",
)


def sparse_parameters(*more: Parameter, normalized: bool, rescaled: bool) -> tuple[Parameter, ...]:
    """Return the parameters of a sparse method.

    Args:
        more: parameters of its own.
        normalized: default of `normalize`.
        rescaled: default of `rescale`.
    """
    doc = "scale a thinned task vector back to its L1 norm"
    rescale = Parameter(name="rescale", per="merge", kind="flag", default=rescaled, doc=doc)
    return (WEIGHT, _DENSITY, *more, normalize(normalized), rescale, LAMBDA)


class SparseMethod(Method):
    """base + lambda * (sum of thinned, weighted task vectors), with or without the election of signs.

    Attributes:
        thinning: "magnitude" keeps the largest elements (Yadav 2023), "window" the largest but for the very largest
            (Davari 2023), "random" each with one probability (Yu 2024), "ranked" with one that grows with its rank
            (Deep 2024).
        elect: TIES' elected sign (Yadav 2023, section 3): where the weighted deltas sum to >= 0 only positive ones
            count, elsewhere only negative ones; `normalize` then divides by the weights of those that count.
    """

    thinning: ClassVar[Thinning]
    elect: ClassVar[bool]
    base = "required"
    inputs = (1, None)

    def coefficients(self, inputs: Inputs, settings: Settings, statistics: Statistics) -> SparseTerms:
        """Return what each model that keeps anything contributes."""
        unweighted = self.elect and settings.variant(SIGN_ELECTION) == "unweighted"
        weights = settings.each("weight")
        used = []
        for model, (weight, density) in enumerate(zip(weights, settings.each("density"), strict=True)):
            if weight == 0 or density <= 0 or (self.thinning == "random" and not keep_bound(density)):
                continue  # nothing of it is kept
            term = self._term(inputs, settings, statistics, model, density) if density < 1 else SparseTerm(1.0, 1.0)
            before, after = (term.sign_weight, weight) if unweighted else (term.sign_weight * weight, 1.0)
            used.append((model, term._replace(weight=weight, sign_weight=_in_float32(before), post_scale=after)))
        total = sum(weights)
        divide = bool(settings.shared("normalize"))
        terms = SparseTerms(
            thinning=self.thinning,
            elect=self.elect,
            models=tuple(used),
            scale=float(settings.shared("lambda")),
            divisor=_in_float32(total) if divide and not self.elect and abs(total) >= SMALLEST_SUM else 1.0,
            disjoint_mean=divide and self.elect,
        )
        return terms._replace(verbatim=_verbatim(terms))

    def _term(
        self, inputs: Inputs, settings: Settings, statistics: Statistics, model: int, density: float
    ) -> SparseTerm:
        """Return the term of a thinned model as if its weight were 1."""
        rescale = bool(settings.shared("rescale"))
        if self.thinning == "magnitude":
            count = statistics.magnitude(model, density)
            scale = (
                _match(statistics.kept_l1(model, count), statistics.kept_l1(model, statistics.size)) if rescale else 1
            )
            return SparseTerm(1.0, scale, keep=statistics.cut(model, count))
        if self.thinning == "window":
            return _window(statistics, model, density, settings.each("gamma")[model], rescale)
        address = mask_keys(inputs.seed, inputs.parents[model], inputs.tensor)
        by_density = rescale and settings.variant(RESCALE_BY) == "density"
        if self.thinning == "random":
            norms = statistics.random(model, density, address) if rescale and not by_density else (1.0, 1.0)
            scale = 1 / density if by_density else _match(*norms)
            return SparseTerm(1.0, scale, address=address, keep_below=keep_bound(density))
        ranking = ranks_of(statistics.shape, settings.each("epsilon")[model])
        matched = rescale and not by_density
        scale = _match(*statistics.ranked(model, density, ranking, address)) if matched else 1.0
        below = keep_bound(density)
        return SparseTerm(1.0, scale, address=address, keep_below=below, ranking=ranking, inverse=by_density)

    @final
    def combine(self, out: torch.Tensor, block: Block, coefficients: SparseTerms) -> None:
        """Write one block of the sparse merge."""
        combine(out, block, coefficients)

    @final
    def merge_compiled(
        self, out: torch.Tensor, inputs: Inputs, coefficients: SparseTerms, gain: float
    ) -> bool | torch.Tensor | None:
        """Write the whole merge in one pass; masks by rank have no kernel."""
        if coefficients.thinning == "ranked":
            return None
        if not out.is_cpu:
            return gpu.sparse(out, inputs, coefficients, gain)
        if coefficients.verbatim is not None or not coefficients.models:
            return None
        assert inputs.base is not None
        models = [inputs.models[model] for model, _ in coefficients.models]
        code = cpu.kernels([out, inputs.base, *models])
        if code is None:
            return None
        return cpu_sparse.sparse(code, out, inputs.base, models, coefficients, gain, inputs=len(inputs.models))

    def unit(self, inputs: Inputs) -> int:
        """Return the elements of whole rows where ranks are counted by row."""
        return ranks_of(inputs.models[0].shape, 0.0).unit if self.thinning == "ranked" else 1

    def contributions(self, settings: Settings) -> Contributions:
        """Return weight times density."""
        pairs = zip(settings.each("weight"), settings.each("density"), strict=True)
        return Contributions(tuple(weight * density for weight, density in pairs))


def _window(statistics: Statistics, model: int, density: float, gamma: float, rescale: bool) -> SparseTerm:
    """Keep int(density * n) elements below the int(gamma * n) largest, or fewer of those where both do not fit."""
    size = statistics.size
    kept = int(density * size)
    largest = min(int(gamma * size), size - kept)
    if kept and largest == int(gamma * size):  # otherwise it depends on the density, too, and is worth no table
        statistics.magnitude(model, density, largest)
    keep, drop = statistics.cut(model, largest + kept), statistics.cut(model, largest)
    scale = 1.0
    if rescale:
        inner = statistics.kept_l1(model, largest + kept) - statistics.kept_l1(model, largest)
        scale = _match(inner, statistics.kept_l1(model, size))
    return SparseTerm(1.0, scale, keep=keep, drop=drop if largest else None)


def _in_float32(value: float) -> float:
    """Return infinity for what float32 does not hold, so that the result is not finite; torch takes no such factor."""
    return value if abs(value) <= LARGEST else math.copysign(math.inf, value)


def _match(kept: float, everything: float) -> float:
    """Return the factor that restores the L1 norm of a thinned task vector."""
    return everything / kept if kept >= SMALLEST_L1 and everything >= SMALLEST_L1 else 1.0


def _verbatim(terms: SparseTerms) -> int | None:
    """Return the model that is the whole result: the only one, unthinned, with a total factor of 1."""
    if len(terms.models) != 1:
        return None
    (model, term), *_ = terms.models
    if term.keep is not None or term.address is not None:
        return None
    factor = 1.0 if terms.disjoint_mean else term.sign_weight * term.post_scale / terms.divisor
    return model if factor * terms.scale == 1 else None
