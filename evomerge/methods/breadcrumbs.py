"""Model breadcrumbs: drop the smallest and the very largest elements of each task vector (Davari 2023)."""

from evomerge.methods.core import SIGN_ELECTION, Parameter, SparseMethod, sparse_parameters

_GAMMA = Parameter(
    name="gamma",
    per="parent",
    default=0.01,
    low=0.0,
    high=1.0,
    gene=(0.0, 0.05),
    doc="fraction of each task vector, its largest elements, that is dropped",
)


class Breadcrumbs(SparseMethod):
    """The elements of middle size of each task vector, added."""

    name = "breadcrumbs"
    title = "Model breadcrumbs: drop the smallest and the very largest"
    formula = "base + lambda * sum(w_i window(x_i - base))"
    paper = "Davari 2023, https://arxiv.org/abs/2312.06795"
    parameters = sparse_parameters(_GAMMA, normalized=False, rescaled=False)
    thinning = "window"
    elect = False


class BreadcrumbsTies(SparseMethod):
    """The elements of middle size of each task vector, added over the models that agree with the elected sign."""

    name = "breadcrumbs_ties"
    title = "Model breadcrumbs with sign election"
    formula = "base + lambda * sum over agreeing models of w_i window(x_i - base)"
    paper = "Davari 2023, https://arxiv.org/abs/2312.06795, and Yadav 2023, https://arxiv.org/abs/2306.01708"
    parameters = sparse_parameters(_GAMMA, normalized=False, rescaled=False)
    variants = (SIGN_ELECTION,)
    thinning = "window"
    elect = True
