"""The records of the sparse methods: ties, dare_*, breadcrumbs*, della*."""

from evomerge.methods.core._linear_combination import (
    INT8_MASK,
    LAMBDA,
    WEIGHT,
    normalize,
)
from evomerge.methods.core._method import Method, Parameter
from evomerge.methods.core._sparsify import RESCALE_BY, SIGN_ELECTION, Sparse

_GAMMA = Parameter(
    name="gamma",
    per="parent",
    default=0.01,
    low=0.0,
    high=1.0,
    gene=(0.0, 0.05),
    doc="fraction of each task vector, its largest elements, that is dropped",
)
_EPSILON = Parameter(
    name="epsilon",
    per="parent",
    default=0.15,
    low=0.0,
    high=1.0,
    doc="keep probabilities run from density - epsilon (smallest of a row) to density + epsilon, within [0, 1]",
)


def _parameters(*more: Parameter, normalized: bool, rescaled: bool) -> tuple[Parameter, ...]:
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
            doc="fraction of each task vector that is kept; 0 = none of it",
        ),
        *more,
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
    arithmetic=Sparse("magnitude", elect=True),
    variants=(SIGN_ELECTION,),
    passes=3,
)

DARE_TIES = Method(
    name="dare_ties",
    title="DARE with sign election",
    formula="base + lambda * sum over agreeing models of w_i rescale(drop(x_i - base))",
    paper="Yu 2024, https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(1, None),
    parameters=_parameters(normalized=False, rescaled=True),
    arithmetic=Sparse("random", elect=True),
    variants=(SIGN_ELECTION, RESCALE_BY),
    passes=2,
)

DARE_LINEAR = Method(
    name="dare_linear",
    title="DARE: drop and rescale",
    formula="base + lambda * sum(w_i rescale(drop(x_i - base)))",
    paper="Yu 2024, https://arxiv.org/abs/2311.03099",
    base="required",
    inputs=(1, None),
    parameters=_parameters(normalized=False, rescaled=True),
    arithmetic=Sparse("random", elect=False),
    variants=(RESCALE_BY,),
    passes=2,
)

BREADCRUMBS = Method(
    name="breadcrumbs",
    title="Model breadcrumbs: drop the smallest and the very largest",
    formula="base + lambda * sum(w_i window(x_i - base))",
    paper="Davari 2023, https://arxiv.org/abs/2312.06795",
    base="required",
    inputs=(1, None),
    parameters=_parameters(_GAMMA, normalized=False, rescaled=False),
    arithmetic=Sparse("window", elect=False),
    passes=4,
)

BREADCRUMBS_TIES = Method(
    name="breadcrumbs_ties",
    title="Model breadcrumbs with sign election",
    formula="base + lambda * sum over agreeing models of w_i window(x_i - base)",
    paper="Davari 2023, https://arxiv.org/abs/2312.06795, and Yadav 2023, https://arxiv.org/abs/2306.01708",
    base="required",
    inputs=(1, None),
    parameters=_parameters(_GAMMA, normalized=False, rescaled=False),
    arithmetic=Sparse("window", elect=True),
    variants=(SIGN_ELECTION,),
    passes=4,
)

DELLA = Method(
    name="della",
    title="DELLA: drop by rank, elect sign, fuse",
    formula="base + lambda * mean over agreeing models of w_i rescale(drop_by_rank(x_i - base))",
    paper="Deep 2024, https://arxiv.org/abs/2406.11617",
    base="required",
    inputs=(1, None),
    parameters=_parameters(_EPSILON, normalized=True, rescaled=True),
    arithmetic=Sparse("ranked", elect=True),
    variants=(SIGN_ELECTION, RESCALE_BY),
    passes=2,
)

DELLA_LINEAR = Method(
    name="della_linear",
    title="DELLA without sign election",
    formula="base + lambda * sum(w_i rescale(drop_by_rank(x_i - base)))",
    paper="Deep 2024, https://arxiv.org/abs/2406.11617",
    base="required",
    inputs=(1, None),
    parameters=_parameters(_EPSILON, normalized=False, rescaled=True),
    arithmetic=Sparse("ranked", elect=False),
    variants=(RESCALE_BY,),
    passes=2,
)

SPARSE = (TIES, DARE_TIES, DARE_LINEAR, BREADCRUMBS, BREADCRUMBS_TIES, DELLA, DELLA_LINEAR)
