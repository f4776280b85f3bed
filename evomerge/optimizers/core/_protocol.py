"""What every optimizer is, and what it proposes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from evomerge.records import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One point to be scored.

    Attributes:
        number: counts the asks from 0.
        generation: counts from 0 and never decreases; proposals of one generation share an item subset.
        point: what to score.
        gradient: whether the optimizer asks for the gradient there, too (see `GradientOptimizer`).
    """

    number: int
    generation: int
    point: Point
    gradient: bool = False


class Optimizer(Protocol):
    """Ask for points, tell their values; higher is better.

    An optimizer is a function of the arguments it was created with and of the sequence of calls it has seen: the same
    calls on a fresh one give the same points. A run is resumed by replaying its calls, so no implementation may look at
    a clock, at a global random state or at the order of a set. `evomerge.testing.optimizers.OptimizerContract` checks
    all of this.
    """

    @property
    def name(self) -> str:
        """The name of its spec ("tpe", never "auto")."""

    @property
    def objectives(self) -> int:
        """Number of values that tell() takes: 1 (the caller forms the weighted mean) or one for each objective."""

    @property
    def generation_size(self) -> int:
        """Number of proposals in the current generation. It can grow when an optimizer restarts."""

    def ask(self) -> Proposal:
        """Return the next point. May be called at any time, also while earlier proposals are unanswered."""

    def tell(self, number: int, values: tuple[float, ...] | None) -> None:
        """Answer a proposal, once, in any order.

        Args:
            number: of the proposal.
            values: `objectives` finite numbers, higher is better; None: the candidate could not be scored.

        Raises:
            InvalidInput: unknown or already answered number, wrong number of values, non-finite value. The proposal
                then stays open.
        """

    def inject(self, points: Sequence[Point]) -> None:
        """Let the next asks return these points verbatim, in this order.

        Args:
            points: of the domain.

        Raises:
            InvalidInput: a point is not in the domain; then none of them is taken.
        """

    def mean(self) -> Point | None:
        """Return the mean of the distribution that points are drawn from, or None where there is none."""


@runtime_checkable
class GradientOptimizer(Optimizer, Protocol):
    """An optimizer that learns from gradients as well, where there are some; its spec says `gradients=True`."""

    def tell_gradient(self, number: int, gradient: Sequence[float]) -> None:
        """Take the gradient at an open proposal that requested one, just before its `tell`.

        An answer without it says that there is no gradient, and most likely will be none.

        Args:
            number: of the proposal.
            gradient: (reals,) derivative of what the search maximizes by each real coordinate of the unit cube, up to a
                constant positive factor; not finite where it is unknown.

        Raises:
            InvalidInput: unknown or already answered number, or another length.
        """

    def ascent_mean(self) -> Point | None:
        """Return where following gradients has ended, or None while it goes on or if none were followed."""


class ItemValue(NamedTuple):
    """What a candidate earned for one item.

    Attributes:
        value: higher is better; from 0 to 1 where the metric has a scale.
        weight: of the item in the weighted mean that a scalar optimizer maximizes.
    """

    value: float
    weight: float


@runtime_checkable
class ItemOptimizer(Optimizer, Protocol):
    """An optimizer that learns from the scores of each item; its spec says `items=True`.

    A search gives it every reference that its space contains as a first proposal, parents included.
    """

    def tell_items(self, number: int, items: Mapping[str, ItemValue]) -> None:
        """Take what an open proposal earned for each item, just before its `tell`.

        Args:
            number: of the proposal.
            items: name of an item, the same for all candidates -> what was earned there.

        Raises:
            InvalidInput: unknown or already answered number.
        """
