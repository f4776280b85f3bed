"""TIES: trim each task vector to its largest elements, elect a sign for each, average those that agree (Yadav 2023)."""

from evomerge.methods.core import SIGN_ELECTION, SparseMethod, sparse_parameters


class Ties(SparseMethod):
    """The largest elements of each task vector, averaged over the models that agree with the elected sign."""

    name = "ties"
    title = "TIES: trim, elect sign, disjoint merge"
    formula = "base + lambda * mean over agreeing models of trimmed w_i (x_i - base)"
    paper = "Yadav 2023, https://arxiv.org/abs/2306.01708"
    parameters = sparse_parameters(normalized=True, rescaled=False)
    variants = (SIGN_ELECTION,)
    thinning = "magnitude"
    elect = True
