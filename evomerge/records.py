"""The frozen facts that every room shares.

Nothing here computes, reads a file or imports another room. Scores are "higher is better" everywhere inside the
program; a metric that is better when lower is negated once, where it is measured, and shown in its own direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Pool = Literal["search", "select", "report"]
POOLS: tuple[Pool, ...] = ("search", "select", "report")

Kind = Literal["candidate", "parent", "simple", "mean", "control"]
State = Literal["queued", "running", "scored", "infeasible", "degenerate", "failed", "lost"]
FailureKind = Literal["infeasible", "degenerate", "failed", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One objective's score: mean over items, its standard error, and the number of items. Higher is better."""

    value: float
    stderr: float
    n: int


Scores = Mapping[str, Score]
"""Objective name -> score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScores:
    """What one candidate got on the items of one objective, in the order of `ids`.

    ids: positions in the objective's item list (all pools share one numbering).
    values: per item, higher is better; the objective's score is their weighted mean.
    weights: per item (e.g. its number of bytes), or None for equal weights.
    soft: a graded companion per item (log-likelihood of the gold answer, or its margin), or None.
    """

    ids: tuple[int, ...]
    values: tuple[float, ...]
    weights: tuple[float, ...] | None = None
    soft: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One thing to be good at.

    direction: of the metric as its benchmark reports it.
    link: how the inner value v becomes the metric: identity (v, or -v for "min") or exp (exp(-v): perplexities, where
        v is the mean log-likelihood per unit).
    weight: share in the weighted mean that scalar optimizers maximize.
    floor: the metric must reach it (in the metric's own direction), or None.
    scale: (low, high) of the metric mapped to 0..1 before weighting; None = used as it is.
    """

    name: str
    task: str
    metric: str
    direction: Literal["max", "min"] = "max"
    link: Literal["identity", "exp"] = "identity"
    weight: float = 1.0
    floor: float | None = None
    scale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a candidate has no score. A state of that candidate, never the end of the run.

    infeasible: the recipe cannot be built. degenerate: built, but not a sane model (non-finite numbers, constant
    output). failed: scoring it raised. lost: its worker vanished or overran its time too often.
    """

    kind: FailureKind
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What an optimizer may vary: reals in [0, 1], integers 0..levels-1, and unordered choices 0..options-1."""

    reals: int = 0
    integers: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return self.reals + len(self.integers) + len(self.categories)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place in a Domain; a space decodes it to a recipe."""

    reals: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentSummary:
    """What a room without file access may know of a parent.

    name: as the user wrote it. block_prefix: the tensor-name prefix before a block's number ("model.layers.").
    attention, mlp: how names of these modules' tensors begin inside a block ("self_attn.", "mlp.").
    digest: of its weight files; the identity that scores hang on. size_bytes: of its weights.
    commit: of the Hugging Face Hub, if it came from there.
    """

    name: str
    architecture: str
    block_prefix: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    dtype: str
    size_bytes: int
    attention: str = "self_attn."
    mlp: str = "mlp."
    digest: str = ""
    license: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One numbered point with its recipe and what is known of it.

    generation: the optimizer's generation it was asked in (-1 for references: parents, simple merges, starts).
    subset: number of the item subset it was scored on; -1 = the whole search pool.
    scores: pool -> objective -> score; a pool that was not scored is absent.
    """

    id: int
    name: str
    kind: Kind
    generation: int
    subset: int
    point: Point | None
    recipe: Mapping[str, Any]
    state: State
    failure: Failure | None = None
    scores: Mapping[Pool, Scores] = field(default_factory=dict)
    seconds: float | None = None
    worker: str | None = None
