"""DARE: drop elements of each task vector at random and rescale the rest (Yu 2024), with or without TIES' election."""

from evomerge.methods.core import RESCALE_BY, SIGN_ELECTION, SparseMethod, sparse_parameters


class DareTies(SparseMethod):
    """Random elements of each task vector, added over the models that agree with the elected sign."""

    name = "dare_ties"
    title = "DARE with sign election"
    formula = "base + lambda * sum over agreeing models of w_i rescale(drop(x_i - base))"
    paper = "Yu 2024, https://arxiv.org/abs/2311.03099"
    parameters = sparse_parameters(normalized=False, rescaled=True)
    variants = (SIGN_ELECTION, RESCALE_BY)
    random = True
    thinning = "random"
    elect = True


class DareLinear(SparseMethod):
    """Random elements of each task vector, added."""

    name = "dare_linear"
    title = "DARE: drop and rescale"
    formula = "base + lambda * sum(w_i rescale(drop(x_i - base)))"
    paper = "Yu 2024, https://arxiv.org/abs/2311.03099"
    parameters = sparse_parameters(normalized=False, rescaled=True)
    variants = (RESCALE_BY,)
    random = True
    thinning = "random"
    elect = False
