"""DELLA: drop elements at random, large ones of a row less often, and rescale (Deep 2024), with or without election."""

from evomerge.methods.core import RESCALE_BY, SIGN_ELECTION, Parameter, SparseMethod, sparse_parameters

_EPSILON = Parameter(
    name="epsilon",
    per="parent",
    default=0.15,
    low=0.0,
    high=1.0,
    doc="keep probabilities run from density - epsilon (smallest of a row) to density + epsilon, within [0, 1]",
)


class Della(SparseMethod):
    """Random elements, by rank, of each task vector, averaged over the models that agree with the elected sign."""

    name = "della"
    title = "DELLA: drop by rank, elect sign, fuse"
    formula = "base + lambda * mean over agreeing models of w_i rescale(drop_by_rank(x_i - base))"
    paper = "Deep 2024, https://arxiv.org/abs/2406.11617"
    parameters = sparse_parameters(_EPSILON, normalized=True, rescaled=True)
    variants = (SIGN_ELECTION, RESCALE_BY)
    random = True
    thinning = "ranked"
    elect = True


class DellaLinear(SparseMethod):
    """Random elements, by rank, of each task vector, added."""

    name = "della_linear"
    title = "DELLA without sign election"
    formula = "base + lambda * sum(w_i rescale(drop_by_rank(x_i - base)))"
    paper = "Deep 2024, https://arxiv.org/abs/2406.11617"
    parameters = sparse_parameters(_EPSILON, normalized=False, rescaled=True)
    variants = (RESCALE_BY,)
    random = True
    thinning = "ranked"
    elect = False
