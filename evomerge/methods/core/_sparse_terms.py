"""What each model contributes to a sparse merge, in numbers."""

from typing import NamedTuple

from evomerge.methods import della as _ranked
from evomerge.methods.statistics._selection import Cut


class SparseTerm(NamedTuple):
    """What one model contributes.

    weight: what it counts in the divisor. vote: factor on its thinned task vector when signs are elected; post: factor
    after that. keep: only elements in this cut; drop: and not in this one; address, below: only where the addressed
    random number is below `below`, to which `ranking` adds by rank and, with `inverse`, divides by the probability.
    """

    weight: float
    vote: float
    post: float = 1.0
    keep: Cut | None = None
    drop: Cut | None = None
    address: tuple[int, int] | None = None
    below: int = 0
    ranking: _ranked.MagnitudeRanks | None = None
    inverse: bool = False


class SparseTerms(NamedTuple):
    """The numbers of a sparse merge.

    models: (index, share) of those that contribute. divisor: of the sum without election (1 = undivided).
    verbatim: the model that is the result as it stands, if one is.
    """

    models: tuple[tuple[int, SparseTerm], ...]
    scale: float
    divisor: float
    disjoint_mean: bool
    verbatim: int | None = None
