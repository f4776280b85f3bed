"""The frozen facts that every package shares.

Nothing here reads a file or imports a package of the program but its errors. Scores are "higher is better" everywhere
inside the program; a metric that is better when lower is negated once, where it is measured, and displayed in its own
direction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from evomerge.errors import InvalidInput

Pool = Literal["search", "select", "report"]
"""A disjoint set of items: for the search, for choosing the pick, for the verdict."""

MAX_EXPONENT = 700.0  # math.exp overflows a little above

POOLS: tuple[Pool, ...] = ("search", "select", "report")

Kind = Literal["candidate", "parent", "simple", "mean", "control"]
"""What a scored recipe is: proposed by the optimizer, a parent, a simple baseline, the distribution mean, or a control:
a recipe under `start:`, or one of an equal-budget random search."""

CandidateState = Literal["queued", "running", "scored", "infeasible", "degenerate", "failed", "lost"]
"""The state of a candidate: waiting, at a worker, done, or one of the kinds of failure."""

FailureKind = Literal["infeasible", "degenerate", "failed", "lost"]
"""Why a candidate has no score; see `Failure`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One objective's score.

    Attributes:
        value: (weighted) mean over the items, or the metric of the whole set; higher is better.
        stderr: standard error of `value`; 0 with a single item.
        n: number of items.
    """

    value: float
    stderr: float
    n: int


Scores = Mapping[str, Score]
"""Objective name -> score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParts:
    """What each item adds to a metric that is no mean over items, such as BLEU.

    Attributes:
        metric: key of `evomerge.stats.SET_METRICS`.
        sign: -1 where the metric is better when lower.
        rows: per item, in the order of the items; what the numbers are is the metric's.
    """

    metric: str
    sign: Literal[1, -1]
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScores:
    """What one candidate scored on the items of one objective, in the order of `ids`.

    Attributes:
        ids: positions in the objective's item list (all pools share one numbering).
        values: per item, higher is better; without `parts`, the objective's score is their weighted mean.
        weights: per item (e.g. its number of bytes), or None for equal weights.
        soft: a graded companion per item (log-likelihood of the gold answer, or its margin), or None.
        parts: what a metric of the whole set is computed from; the values are then each item's by itself, for people.
            None = the score is the mean.
    """

    ids: tuple[int, ...]
    values: tuple[float, ...]
    weights: tuple[float, ...] | None = None
    soft: tuple[float, ...] | None = None
    parts: SetParts | None = None

    def at(self, positions: Sequence[int]) -> "ItemScores":
        """Return the scores of some of the items, by their positions, in that order."""

        def chosen(column: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(column[position] for position in positions)

        return ItemScores(
            ids=tuple(self.ids[position] for position in positions),
            values=chosen(self.values),
            weights=None if self.weights is None else chosen(self.weights),
            soft=None if self.soft is None else chosen(self.soft),
            parts=self.parts and replace(self.parts, rows=tuple(self.parts.rows[position] for position in positions)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One thing to be good at.

    Attributes:
        name: of the objective: the task, or TASK/METRIC where a task is used twice.
        task: whose items it is measured on.
        metric: name of the metric, as the task calls it.
        direction: of the metric as its benchmark reports it; "min": lower is better.
        link: how the internal score v becomes the displayed one: "identity" (v, or -v for "min") or "exp" (exp(-v):
            perplexities, where v is the mean log-likelihood per unit).
        weight: share in the weighted mean that scalar optimizers maximize; 0 = none: its floor and the front count.
        floor: the metric must reach it (in the metric's own direction), or None.
        scale: (low, high) of the metric, mapped to 0..1 before weighting; None: used as it is.
        exact: whether the value is known without error, such as a model's number of layers: all items agree.
    """

    name: str
    task: str
    metric: str
    direction: Literal["max", "min"] = "max"
    link: Literal["identity", "exp"] = "identity"
    weight: float = 1.0
    floor: float | None = None
    scale: tuple[float, float] | None = None
    exact: bool = False

    def displayed(self, internal: float) -> float:
        """Return an internal value (higher is better) in the metric's own units and direction."""
        if self.link == "exp":
            return math.exp(min(-internal, MAX_EXPONENT))
        return internal if self.direction == "max" else -internal


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a candidate has no score. A state of that candidate, never the end of the run.

    Attributes:
        kind: "infeasible": the recipe cannot be built; "degenerate": built, but not a sane model (non-finite numbers,
            constant output); "failed": scoring it raised; "lost": its worker vanished or overran its time too often.
        reason: one sentence.
        detail: more, for the log (a traceback).
    """

    kind: FailureKind
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What an optimizer may vary.

    Attributes:
        reals: number of reals, each in [0, 1].
        integers: levels of each integer, which runs over 0..levels-1.
        categories: options of each unordered choice, which runs over 0..options-1.
    """

    reals: int = 0
    integers: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return self.reals + len(self.integers) + len(self.categories)

    def check(self, point: "Point") -> None:
        """Check that a point lies in the domain.

        Raises:
            InvalidInput: another number of coordinates; a real that is not a number from 0 to 1; an integer or
                category that is not one of its levels or options.
        """
        counts = (len(point.reals), len(point.integers), len(point.categories))
        expected = (self.reals, len(self.integers), len(self.categories))
        if counts != expected:
            raise InvalidInput(f"point has {counts} reals, integers and categories; the domain has {expected}")
        for position, value in enumerate(point.reals):
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise InvalidInput(f"real {position} of the point is {value!r}; expected a number from 0 to 1")
        for kind, values, levels in (
            ("integer", point.integers, self.integers),
            ("category", point.categories, self.categories),
        ):
            for position, (level, count) in enumerate(zip(values, levels, strict=True)):
                if not (isinstance(level, int) and 0 <= level < count):
                    raise InvalidInput(
                        f"{kind} {position} of the point is {level!r}; expected a whole number from 0 to {count - 1}"
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A coarse view of a space of reals: what a coarse-to-fine search varies before it varies everything.

    Moving the level's numbers by d moves the space's reals by `weights` times d. Each row of the weights has the sum 1,
    so that a level's number is the common value of the reals that it stands for.

    Attributes:
        name: for people ("curves over depth").
        weights: (reals of the space, numbers of the level).
    """

    name: str
    weights: tuple[tuple[float, ...], ...]

    @property
    def size(self) -> int:
        """How many numbers the level has."""
        return len(self.weights[0]) if self.weights else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place in a Domain; a space decodes it to a recipe.

    Attributes:
        reals: each in [0, 1].
        integers: each in 0..levels-1.
        categories: each in 0..options-1.
    """

    reals: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    categories: tuple[int, ...] = ()


class Stage(NamedTuple):
    """A part of the coordinates that a search varies while it keeps the others.

    Attributes:
        name: for people.
        reals: numbers of the real coordinates.
        integers: of the integers.
        categories: of the categories.
        share: of the candidates that it gets.
    """

    name: str
    reals: range
    integers: range
    categories: range
    share: float

    @property
    def size(self) -> int:
        """How many numbers it varies."""
        return len(self.reals) + len(self.integers) + len(self.categories)


class TensorPlace(NamedTuple):
    """Where a tensor of a parent is.

    Attributes:
        name: of the tensor.
        layer: number of its block in the stack of language blocks; -1 = outside of it.
        depth: in its stack, 0 (first block, or no stack) to 1 (last block).
        part: of the model: "text_decoder" is the language model, others are those of vision-language models.
    """

    name: str
    layer: int
    depth: float
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentSummary:
    """What a package without file access may know of a parent.

    Attributes:
        name: as the user wrote it.
        architecture: of its config ("LlamaForCausalLM").
        block_prefix: what tensor names have before a block's number ("model.layers.").
        num_layers: number of blocks.
        hidden_size: width of the residual stream.
        vocab_size: rows of its embedding.
        dtype: of its weights ("bfloat16").
        size_bytes: of its weights.
        attention: how names of attention tensors begin inside a block ("self_attn.").
        mlp: how names of MLP tensors begin inside a block ("mlp.").
        digest: of its weight files, the identity that scores depend on; "" where it was not computed.
        license: as its card states it, or None.
        commit: of the Hugging Face Hub, if it came from there.
        tensors: where its tensors are.
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
    tensors: tuple[TensorPlace, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One numbered point with its recipe and what is known of it.

    Attributes:
        id: counts the candidates of a run, references included, from 0.
        name: for people: a reference's name, or one made of the number.
        kind: what it is.
        generation: the optimizer's generation that proposed it; its number in an equal-budget random search; -1 for
            references (parents, simple baselines, the user's recipes).
        subset: number of the item subset it was scored on; -1: the whole search pool.
        point: of the space, or None for a reference.
        recipe: the document, plain data.
        state: waiting, running, scored, or how it failed.
        failure: why it has no score, or None.
        scores: pool -> objective -> score; a pool that was not scored is absent.
        seconds: that scoring it took, or None.
        worker: name of the worker that scored it, or None.
    """

    id: int
    name: str
    kind: Kind
    generation: int
    subset: int
    point: Point | None
    recipe: Mapping[str, Any]
    state: CandidateState
    failure: Failure | None = None
    scores: Mapping[Pool, Scores] = field(default_factory=dict)
    seconds: float | None = None
    worker: str | None = None

    @property
    def from_control(self) -> bool:
        """Whether an equal-budget random search proposed it; other controls are the user's own recipes."""
        return self.kind == "control" and self.generation >= 0
